//! The sections `[method]` and `[encoder]` of a modality: which objective and which network, by name, with
//! the keys of its own.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

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

/// Declares the encoders of a modality as an enum of networks: each variant holds the keys of one network,
/// whose struct has `name` and `pretrained` among them and the names that files and the command use. The
/// first network is the default. Made with it: serde's form, where the key `name` tells which network's keys
/// stand beside it, and what asks a name for its network. A key of another network is an unknown key.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// #[serde(default, deny_unknown_fields)]
/// pub struct ConvKeys {
///     pub name: String,
///     pub pretrained: Option<String>,
///     pub width: usize,
/// }
/// # impl Default for ConvKeys {
/// #     fn default() -> Self { ConvKeys { name: "conv_small".into(), pretrained: None, width: 8 } }
/// # }
/// selfsup_core::encoder_config! {
///     /// What this modality has.
///     pub enum EncoderConfig {
///         /// Convolutions.
///         Conv(ConvKeys) = ["conv_small", "conv_large"],
///     }
/// }
/// assert_eq!(EncoderConfig::NAMES, ["conv_small", "conv_large"]);
/// assert_eq!(EncoderConfig::default().name(), "conv_small");
/// let read: EncoderConfig = serde_json::from_str(r#"{"name": "conv_large", "width": 3}"#).unwrap();
/// assert!(EncoderConfig::alike("conv_small", read.name()));
/// assert!(serde_json::from_str::<EncoderConfig>(r#"{"name": "conv_large", "heads": 3}"#).is_err());
/// ```
#[macro_export]
macro_rules! encoder_config {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $(#[$first_doc:meta])* $first:ident($first_keys:ty) = [$($first_text:literal),+ $(,)?],
            $($(#[$doc:meta])* $variant:ident($keys:ty) = [$($text:literal),+ $(,)?],)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, ::serde::Serialize)]
        #[serde(untagged)]
        pub enum $name {
            $(#[$first_doc])*
            $first($first_keys),
            $($(#[$doc])* $variant($keys),)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name::$first(<$first_keys>::default())
            }
        }

        impl From<$first_keys> for $name {
            fn from(keys: $first_keys) -> Self {
                $name::$first(keys)
            }
        }

        $(impl From<$keys> for $name {
            fn from(keys: $keys) -> Self {
                $name::$variant(keys)
            }
        })*

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> ::std::result::Result<Self, D::Error> {
                let table = $crate::recipe::NamedTable::read(deserializer)?;
                match table.name.as_deref() {
                    None $(| Some($first_text))+ => table.keys().map($name::$first),
                    $($(Some($text))|+ => table.keys().map($name::$variant),)*
                    Some(other) => Err(::serde::de::Error::unknown_variant(other, Self::NAMES)),
                }
            }
        }

        impl $name {
            /// Every encoder's name.
            pub const NAMES: &'static [&'static str] = &[$($first_text,)+ $($($text,)+)*];

            /// The defaults of an encoder.
            ///
            /// # Errors
            /// If there is no such encoder.
            pub fn named(name: &str) -> $crate::Result<Self> {
                Ok(match name {
                    $($first_text)|+ => $name::$first(<$first_keys>::default()),
                    $($($text)|+ => $name::$variant(<$keys>::default()),)*
                    other => {
                        let known = Self::NAMES.join(", ");
                        return Err($crate::Error::config(format!("encoder.name = \"{other}\": expected one of {known}")));
                    }
                }
                .with_name(name))
            }

            fn with_name(mut self, name: &str) -> Self {
                match &mut self {
                    $name::$first(c) => c.name = name.to_string(),
                    $($name::$variant(c) => c.name = name.to_string(),)*
                }
                self
            }

            /// Whether two names are of one network, so that its keys mean the same for both.
            pub fn alike(a: &str, b: &str) -> bool {
                [&[$($first_text),+][..] $(, &[$($text),+][..])*].iter().any(|names| names.contains(&a) && names.contains(&b))
            }

            /// The encoder's name.
            pub fn name(&self) -> &str {
                match self {
                    $name::$first(c) => &c.name,
                    $($name::$variant(c) => &c.name,)*
                }
            }

            /// The weights that it starts from.
            pub fn pretrained(&self) -> Option<&str> {
                match self {
                    $name::$first(c) => c.pretrained.as_deref(),
                    $($name::$variant(c) => c.pretrained.as_deref(),)*
                }
            }

            /// Changes the weights that it starts from.
            pub fn set_pretrained(&mut self, pretrained: Option<String>) {
                match self {
                    $name::$first(c) => c.pretrained = pretrained,
                    $($name::$variant(c) => c.pretrained = pretrained,)*
                }
            }
        }
    };
}

/// A section before it is known which keys it has; part of [`crate::encoder_config`].
pub struct NamedTable {
    /// Its key `name`.
    pub name: Option<String>,
    table: toml::Table,
}

impl NamedTable {
    /// Reads a section.
    ///
    /// # Errors
    /// If it is no table, or its name no text.
    pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = toml::Table::deserialize(deserializer)?;
        let name = table.get("name").cloned().map(of_value).transpose()?;
        Ok(NamedTable { name, table })
    }

    /// The keys of the network that the name stands for.
    ///
    /// # Errors
    /// If one is unknown or has a wrong value.
    pub fn keys<T: DeserializeOwned, E: serde::de::Error>(self) -> Result<T, E> {
        of_value(toml::Value::Table(self.table))
    }
}

fn of_value<T: DeserializeOwned, E: serde::de::Error>(value: toml::Value) -> Result<T, E> {
    value.try_into().map_err(|e| E::custom(e.message().trim()))
}

/// Declares the methods of a modality of arrays: its own, if it has any, and all methods over views, whose
/// list is here. As [`method_config!`](crate::method_config), and `over_views` gives the declaration of
/// those. Methods of its own that are methods over views too stand behind `..`, and in the enum behind the list.
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
    ($(#[$meta:meta])* pub enum $name:ident { .., $($own:tt)* }) => {
        $crate::methods_over_views! { @list [$(#[$meta])*] $name [] [$($own)*] }
    };
    ($(#[$meta:meta])* pub enum $name:ident { $($own:tt)* }) => {
        $crate::methods_over_views! { @list [$(#[$meta])*] $name [$($own)*] [] }
    };
    (@list $meta:tt $name:ident $own:tt $behind:tt) => {
        $crate::methods_over_views! {
            @with $meta $name $own $behind
            // One line a method: its variant, its configuration, its name, what it is.
            Simclr SimClrConfig "simclr" "SimCLR.",
            Moco MoCoConfig "moco" "MoCo v1 and v2.",
            MocoV3 MoCoV3Config "moco-v3" "MoCo v3.",
            Byol ByolConfig "byol" "BYOL.",
            Simsiam SimSiamConfig "simsiam" "SimSiam.",
            BarlowTwins BarlowTwinsConfig "barlow-twins" "Barlow Twins.",
            Vicreg VicRegConfig "vicreg" "VICReg.",
            Dcl DclConfig "dcl" "DCL and DCLW.",
            Nnclr NnclrConfig "nnclr" "NNCLR.",
            SupCon SupConConfig "supcon" "SupCon, with labels where there are some.",
            Triplet TripletConfig "triplet" "Triplets of views.",
            Swav SwavConfig "swav" "SwAV.",
            Dino DinoConfig "dino" "DINO.",
            Lejepa LeJepaConfig "lejepa" "LeJEPA.",
            Ibot IBotConfig "ibot" "iBOT.",
            Dinov2 DinoV2Config "dinov2" "DINOv2.",
            Mae MaeConfig "mae" "Masked autoencoder.",
            Simmim SimMimConfig "simmim" "SimMIM.",
            Ijepa IJepaConfig "i-jepa" "I-JEPA.",
            Rotation RotationConfig "rotation" "Rotation prediction.",
            Inpainting InpaintingConfig "inpainting" "Context encoder: in-painting of random regions.",
            Jigsaw JigsawConfig "jigsaw" "Jigsaw puzzles.",
            RelativePosition RelativePositionConfig "relative-position" "Relative position of two tiles.",
        }
    };
    (
        @with [$(#[$meta:meta])*] $name:ident [$($own:tt)*]
        [$($(#[$behind_doc:meta])* $behind:ident($behind_config:ty) = $behind_text:literal,)*]
        $($variant:ident $config:ident $text:literal $doc:literal,)*
    ) => {
        $crate::method_config! {
            $(#[$meta])*
            pub enum $name {
                $($own)*
                $(#[doc = $doc] $variant($crate::objective::$config) = $text,)*
                $($(#[$behind_doc])* $behind($behind_config) = $behind_text,)*
            }
        }

        impl $name {
            /// The declaration of a method over views; nothing for a method that is the modality's own.
            pub fn over_views(&self) -> Option<&dyn $crate::objective::OverViews> {
                match self {
                    $($name::$variant(c) => Some(c),)*
                    $($name::$behind(c) => Some(c),)*
                    #[allow(unreachable_patterns)]
                    _ => None,
                }
            }

            /// The same, to be changed.
            pub fn over_views_mut(&mut self) -> Option<&mut dyn $crate::objective::OverViews> {
                match self {
                    $($name::$variant(c) => Some(c),)*
                    $($name::$behind(c) => Some(c),)*
                    #[allow(unreachable_patterns)]
                    _ => None,
                }
            }
        }
    };
}
