//! The macros, and what they need at compile time.

/// The name of a field with other characters: `_` becomes `separator`, and letters become capitals if asked to.
pub const fn replaced<const LENGTH: usize>(field: &str, separator: u8, in_capitals: bool) -> [u8; LENGTH] {
    let (mut name, bytes, mut at) = ([0; LENGTH], field.as_bytes(), 0);
    while at < LENGTH {
        name[at] = match bytes[at] {
            b'_' => separator,
            letter if in_capitals => letter.to_ascii_uppercase(),
            letter => letter,
        };
        at += 1;
    }
    name
}

/// How long the name of a variant is in kebab-case.
pub const fn kebab_length(variant: &str) -> usize {
    let (mut length, bytes, mut at) = (variant.len(), variant.as_bytes(), 1);
    while at < bytes.len() {
        length += bytes[at].is_ascii_uppercase() as usize;
        at += 1;
    }
    length
}

/// The name of a variant in kebab-case.
pub const fn kebab<const LENGTH: usize>(variant: &str) -> [u8; LENGTH] {
    let (mut name, bytes, mut from, mut to) = ([0; LENGTH], variant.as_bytes(), 0, 0);
    while from < bytes.len() {
        if from > 0 && bytes[from].is_ascii_uppercase() {
            name[to] = b'-';
            to += 1;
        }
        name[to] = bytes[from].to_ascii_lowercase();
        from += 1;
        to += 1;
    }
    name
}

/// The text of bytes that are UTF-8.
pub const fn text(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => panic!("names of fields are UTF-8"),
    }
}

/// The name of a field in kebab-case, or in capitals.
#[doc(hidden)]
#[macro_export]
macro_rules! name {
    ($field:ident) => {
        $crate::name!($field, b'-', false)
    };
    ($field:ident, $separator:literal, $in_capitals:literal) => {{
        const FIELD: &str = stringify!($field);
        const BYTES: [u8; FIELD.len()] = $crate::replaced(FIELD, $separator, $in_capitals);
        const NAME: &str = $crate::text(&BYTES);
        NAME
    }};
}

/// The name of a variant in kebab-case.
#[doc(hidden)]
#[macro_export]
macro_rules! variant_name {
    ($variant:ident) => {{
        const VARIANT: &str = stringify!($variant);
        const BYTES: [u8; $crate::kebab_length(VARIANT)] = $crate::kebab(VARIANT);
        const NAME: &str = $crate::text(&BYTES);
        NAME
    }};
}

/// `Some` of what may be there.
#[doc(hidden)]
#[macro_export]
macro_rules! option {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

/// Declares a struct of settings.
///
/// Each setting is `name: Type = default, in ALLOWED, formerly "old-name", kind(KIND);` after its documentation, which
/// is also its help. `in` (an [`Allowed`](crate::Allowed): a range, say) and `formerly` may be left out; the type is any
/// [`SettingType`](crate::SettingType), the kind a variant of [`Kind`](crate::Kind).
///
/// The struct has public fields, `Default`, and serde's traits: names in kebab-case, what is missing is the default,
/// what is unknown is refused. `DECLARED` lists the [`Setting`](crate::Setting)s in order, `settings()` pairs them with
/// their values, and `check_each()` checks each by itself. If the crate that declares it has a feature `cli` that is on,
/// the struct has clap's `Args` too. That crate depends on serde and, with `cli`, on clap.
#[macro_export]
macro_rules! settings {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $struct:ident {
            $(
                $(#[doc = $doc:tt])+
                $field:ident: $type:ty = $default:expr
                $(, in $allowed:expr)?
                $(, formerly $old:tt)?
                , kind($kind:ident);
            )+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        $visibility struct $struct {
            $(
                $(#[doc = $doc])+
                #[serde(skip_serializing_if = "::relievo_settings::is_unset")]
                $(#[serde(alias = $old)])?
                pub $field: $type,
            )+
        }

        impl Default for $struct {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl $struct {
            /// The settings, in the order of the fields.
            pub const DECLARED: &'static [$crate::Setting] = &[$(
                $crate::Setting {
                    name: $crate::name!($field),
                    help: concat!($($doc),+).trim_ascii(),
                    kind: $crate::Kind::$kind,
                    formerly: $crate::option!($($old)?),
                    is_optional: <$type as $crate::SettingType>::IS_OPTIONAL,
                },
            )+];

            /// The settings with their values, in the order of the fields.
            pub fn settings(&self) -> impl Iterator<Item = (&'static $crate::Setting, $crate::Value)> {
                Self::DECLARED.iter().zip([$($crate::SettingType::value(&self.$field),)+])
            }

            /// Checks each setting by itself, without regard to the others.
            ///
            /// # Errors
            /// Names the first one that has a value it must not have.
            pub fn check_each(&self) -> Result<(), $crate::Invalid> {
                $($($crate::check($crate::name!($field), &self.$field, &($allowed))?;)?)+
                Ok(())
            }
        }

        #[cfg(feature = "cli")]
        impl ::clap::Args for $struct {
            fn augment_args(command: ::clap::Command) -> ::clap::Command {
                command $(.arg({
                    // clap wants what lives as long as the program.
                    static DEFAULT: ::std::sync::LazyLock<Vec<String>> =
                        ::std::sync::LazyLock::new(|| $crate::SettingType::words(&$struct::default().$field));
                    let names = [stringify!($field), $crate::name!($field), $crate::name!($field, b'_', true)];
                    $crate::cli::argument::<$type>(names, concat!($($doc),+).trim_ascii(), &DEFAULT)
                        $(.alias($old))?
                }))+
            }

            fn augment_args_for_update(command: ::clap::Command) -> ::clap::Command {
                Self::augment_args(command)
            }
        }

        #[cfg(feature = "cli")]
        impl ::clap::FromArgMatches for $struct {
            fn from_arg_matches(matches: &::clap::ArgMatches) -> Result<Self, ::clap::Error> {
                let mut settings = Self::default();
                settings.update_from_arg_matches(matches)?;
                Ok(settings)
            }

            fn update_from_arg_matches(&mut self, matches: &::clap::ArgMatches) -> Result<(), ::clap::Error> {
                $(
                    if let Some(value) = <$type as $crate::cli::ArgumentType>::from_matches(matches, stringify!($field)) {
                        self.$field = value;
                    }
                )+
                Ok(())
            }
        }
    };
}

/// Declares an enum that a setting may be: one of several names.
///
/// Files and command lines have the names in kebab-case. `ALL` lists the variants in order; the documentation of each is
/// its help.
#[macro_export]
macro_rules! choices {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $enum:ident {
            $($(#[$about:meta])+ $variant:ident),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[cfg_attr(feature = "cli", derive(::clap::ValueEnum))]
        $visibility enum $enum {
            $($(#[$about])+ $variant,)+
        }

        impl $enum {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in files and on the command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $crate::variant_name!($variant),)+
                }
            }
        }

        impl $crate::SettingType for $enum {
            type Set = Self;
            fn set(&self) -> Option<&Self> {
                Some(self)
            }
            fn value(&self) -> $crate::Value {
                $crate::Value::Text(self.name().to_owned())
            }
        }

        #[cfg(feature = "cli")]
        impl $crate::cli::ArgumentType for $enum {
            fn parsed(argument: ::clap::Arg) -> ::clap::Arg {
                argument.value_parser(::clap::value_parser!($enum))
            }
        }
    };
}

/// Makes a type with `Display` and `FromStr` one that a setting may have.
#[macro_export]
macro_rules! setting_from_text {
    ($type:ty) => {
        impl $crate::SettingType for $type {
            type Set = Self;
            fn set(&self) -> Option<&Self> {
                Some(self)
            }
            fn value(&self) -> $crate::Value {
                $crate::Value::Text(self.to_string())
            }
        }

        #[cfg(feature = "cli")]
        impl $crate::cli::ArgumentType for $type {
            fn parsed(argument: ::clap::Arg) -> ::clap::Arg {
                argument.value_parser(::clap::value_parser!($type))
            }
        }
    };
}
