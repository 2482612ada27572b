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
