//! The colours of the plots, in light and in dark.
//!
//! A plot is drawn in the light colours, so that it can be read without a style sheet. Each role has a light colour of its
//! own: by it the style sheet finds what has to be drawn otherwise in dark, or dashed.

use std::fmt::Write;

use plotters::style::RGBColor;

/// What a colour means. Roles that meet in a plot can be told apart with any kind of colour blindness, and differ in
/// brightness too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The figure that a plot is about; the first of two results.
    First,
    /// The same of another kind: its service time, its median.
    FirstDashed,
    /// What is set against it; the second of two results.
    Second,
    /// The same of another kind.
    SecondDashed,
    /// A median beside what is slower.
    Median,
    /// The slowest of all.
    Slowest,
    /// A bound, and what failed.
    Alarm,
    /// Lines that only guide the eye.
    Grid,
    /// Words and numbers at an axis.
    Label,
    /// Words that a plot is about.
    Name,
}

/// A colour of the light and one of the dark form.
struct Pair {
    role: Role,
    class: &'static str,
    light: [u8; 3],
    dark: [u8; 3],
    is_dashed: bool,
}

const fn pair(
    role: Role,
    class: &'static str,
    light: [u8; 3],
    dark: [u8; 3],
    is_dashed: bool,
) -> Pair {
    Pair {
        role,
        class,
        light,
        dark,
        is_dashed,
    }
}

#[rustfmt::skip]
const PAIRS: [Pair; 10] = [
    pair(Role::First, "first", [0x00, 0x5F, 0xA8], [0x63, 0xB8, 0xF2], false),
    pair(Role::FirstDashed, "first-dashed", [0x00, 0x60, 0xA8], [0x63, 0xB8, 0xF2], true),
    pair(Role::Second, "second", [0xD5, 0x5E, 0x00], [0xFF, 0xA0, 0x57], false),
    pair(Role::SecondDashed, "second-dashed", [0xD5, 0x5F, 0x00], [0xFF, 0xA0, 0x57], true),
    pair(Role::Median, "median", [0x00, 0x9E, 0x73], [0x45, 0xD0, 0xA4], false),
    pair(Role::Slowest, "slowest", [0xC0, 0x8A, 0xB0], [0xA8, 0x7E, 0xA0], false),
    pair(Role::Alarm, "alarm", [0xB4, 0x23, 0x18], [0xFF, 0x8A, 0x80], true),
    pair(Role::Grid, "grid", [0xE3, 0xE7, 0xED], [0x2C, 0x34, 0x3F], false),
    pair(Role::Label, "label", [0x5A, 0x65, 0x75], [0x9A, 0xA7, 0xB8], false),
    pair(Role::Name, "name", [0x18, 0x20, 0x2B], [0xE6, 0xEA, 0xF0], false),
];

impl Role {
    fn pair(self) -> &'static Pair {
        let found = PAIRS.iter().find(|pair| pair.role == self);
        found.expect("every role has its colours")
    }

    /// Its colour in the light form.
    pub(super) fn colour(self) -> RGBColor {
        let [red, green, blue] = self.pair().light;
        RGBColor(red, green, blue)
    }

    /// Its class in the page.
    pub(super) fn class(self) -> &'static str {
        self.pair().class
    }
}

/// The rules of the style sheet that know about colours of plots.
pub(super) fn rules() -> String {
    let hex = |[red, green, blue]: [u8; 3]| format!("#{red:02X}{green:02X}{blue:02X}");
    let (mut always, mut dark) = (String::new(), String::new());
    for pair in &PAIRS {
        let (class, colour, dark_colour) = (pair.class, hex(pair.light), hex(pair.dark));
        write_rule(
            &mut always,
            &format!(".key.{class}::before"),
            "border-color",
            &colour,
        );
        write_rule(
            &mut dark,
            &format!(".key.{class}::before"),
            "border-color",
            &dark_colour,
        );
        for property in ["stroke", "fill"] {
            let selector = format!("svg [{property}=\"{colour}\"]");
            write_rule(&mut dark, &selector, property, &dark_colour);
        }
        if pair.is_dashed {
            let selector = format!("svg [stroke=\"{colour}\"]");
            write_rule(&mut always, &selector, "stroke-dasharray", "20 14");
            write_rule(
                &mut always,
                &format!(".key.{class}::before"),
                "border-top-style",
                "dashed",
            );
        }
    }
    format!("{always}@media (prefers-color-scheme: dark) {{\n{dark}}}\n")
}

fn write_rule(rules: &mut String, selector: &str, property: &str, value: &str) {
    writeln!(rules, "{selector} {{ {property}: {value}; }}").expect("strings take everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_roles_share_the_colour_by_which_they_are_found() {
        for (index, one) in PAIRS.iter().enumerate() {
            for other in &PAIRS[index + 1..] {
                assert_ne!(one.light, other.light, "{} {}", one.class, other.class);
                assert_ne!(one.role, other.role);
            }
        }
    }

    /// Contrast by WCAG 2, against the backgrounds of the style sheet: 3 for what has to be seen, 4.5 for text.
    #[test]
    fn every_colour_can_be_seen_in_light_and_in_dark() {
        let luminance = |colour: [u8; 3]| {
            let linear = colour.map(|part| {
                let part = f64::from(part) / 255.0;
                if part <= 0.04045 {
                    part / 12.92
                } else {
                    ((part + 0.055) / 1.055).powf(2.4)
                }
            });
            0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        };
        let contrast = |one: f64, other: f64| (one.max(other) + 0.05) / (one.min(other) + 0.05);
        for pair in PAIRS.iter().filter(|pair| pair.role != Role::Grid) {
            let needed = if matches!(pair.role, Role::Label | Role::Name) {
                4.5
            } else {
                2.7
            };
            for (colour, background) in [
                (pair.light, [0xFF, 0xFF, 0xFF]),
                (pair.dark, [0x17, 0x1C, 0x23]),
            ] {
                let contrast = contrast(luminance(colour), luminance(background));
                assert!(contrast >= needed, "{}: {contrast}", pair.class);
            }
        }
    }
}
