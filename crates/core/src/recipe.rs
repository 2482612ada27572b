//! The `[method]` section of a modality: which objective, by name, with that objective's own keys.

/// Declares the methods of a modality as an enum: each variant holds a method's configuration and has the
/// name that files and the command use. The first is the default. Made with it: `NAMES`, `named` (the
/// defaults of a method), `name`, and serde's form, where the key `name` tells which method's keys stand
/// beside it.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
/// pub struct ContrastConfig {
///     pub temperature: f64,
/// }
/// selfsup_core::method_config! {
///     /// What this modality can be trained with.
///     pub enum MethodConfig {
///         /// Contrast.
///         Contrast(ContrastConfig) = "contrast",
///     }
/// }
/// assert_eq!(MethodConfig::NAMES, ["contrast"]);
/// assert_eq!(MethodConfig::named("contrast")?.name(), "contrast");
/// assert!(MethodConfig::named("contrats").unwrap_err().to_string().contains("expected one of contrast"));
/// # Ok::<(), selfsup_core::Error>(())
/// ```
#[macro_export]
macro_rules! method_config {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $(#[$first_doc:meta])* $first:ident($first_config:ty) = $first_text:literal,
            $($(#[$doc:meta])* $variant:ident($config:ty) = $text:literal,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(tag = "name")]
        pub enum $name {
            $(#[$first_doc])*
            #[serde(rename = $first_text)]
            $first($first_config),
            $($(#[$doc])* #[serde(rename = $text)] $variant($config),)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name::$first(<$first_config>::default())
            }
        }

        impl $name {
            /// Every method's name.
            pub const NAMES: [&'static str; [$first_text, $($text),*].len()] = [$first_text, $($text),*];

            /// The defaults of a method.
            ///
            /// # Errors
            /// If there is no such method.
            pub fn named(name: &str) -> $crate::Result<Self> {
                Ok(match name {
                    $first_text => $name::$first(<$first_config>::default()),
                    $($text => $name::$variant(<$config>::default()),)*
                    other => {
                        let known = Self::NAMES.join(", ");
                        return Err($crate::Error::config(format!("method.name = \"{other}\": expected one of {known}")));
                    }
                })
            }

            /// The method's name.
            pub fn name(&self) -> &'static str {
                match self {
                    $name::$first(_) => $first_text,
                    $($name::$variant(_) => $text,)*
                }
            }
        }
    };
}

/// Declares the methods of a modality of arrays: its own, if it has any, and all methods over views, whose list
/// is here. As [`method_config!`](crate::method_config), and `over_views` gives the declaration of those.
///
/// ```
/// selfsup_core::methods_over_views! {
///     /// What images can be trained with.
///     pub enum MethodConfig {}
/// }
/// assert_eq!(MethodConfig::default().name(), "simclr");
/// assert!(MethodConfig::named("byol")?.over_views().is_some_and(|m| m.wanted().globals() == 2));
/// # Ok::<(), selfsup_core::Error>(())
/// ```
#[macro_export]
macro_rules! methods_over_views {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$doc:meta])* $own:ident($own_config:ty) = $own_text:literal,)* }) => {
        $crate::methods_over_views! {
            @with [$(#[$meta])*] $name [$($(#[$doc])* $own($own_config) = $own_text,)*]
            // One line a method: its variant, its configuration, its name, what it is.
            Simclr SimClrConfig "simclr" "SimCLR.",
            Moco MoCoConfig "moco" "MoCo v1 and v2.",
            MocoV3 MoCoV3Config "moco-v3" "MoCo v3.",
            Byol ByolConfig "byol" "BYOL.",
            Simsiam SimSiamConfig "simsiam" "SimSiam.",
            BarlowTwins BarlowTwinsConfig "barlow-twins" "Barlow Twins.",
            Vicreg VicRegConfig "vicreg" "VICReg.",
            Mae MaeConfig "mae" "Masked autoencoder.",
            Rotation RotationConfig "rotation" "Rotation prediction.",
        }
    };
    (@with [$(#[$meta:meta])*] $name:ident [$($own:tt)*] $($variant:ident $config:ident $text:literal $doc:literal,)*) => {
        $crate::method_config! {
            $(#[$meta])*
            pub enum $name {
                $($own)*
                $(#[doc = $doc] $variant($crate::objective::$config) = $text,)*
            }
        }

        impl $name {
            /// The declaration of a method over views; nothing for a method that is the modality's own.
            pub fn over_views(&self) -> Option<&dyn $crate::objective::OverViews> {
                match self {
                    $($name::$variant(c) => Some(c),)*
                    #[allow(unreachable_patterns)]
                    _ => None,
                }
            }

            /// The same, to be changed.
            pub fn over_views_mut(&mut self) -> Option<&mut dyn $crate::objective::OverViews> {
                match self {
                    $($name::$variant(c) => Some(c),)*
                    #[allow(unreachable_patterns)]
                    _ => None,
                }
            }
        }
    };
}
