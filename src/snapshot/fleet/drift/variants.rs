//! The values that one setting has over the nodes, each with the nodes that have it.

use warden_host::Value;

use crate::diff::row_keys::{SMALL, number};
use crate::fleet::nodes::NodeSet;

/// Different values of one setting that are told apart: a setting with more has a value of its own on every node.
const APART: usize = 32;

/// Certificates that were made in one go end within so many days of each other.
const DAYS: i64 = 30;
const DAY_SECONDS: i64 = 86_400;

/// What makes two values the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alike {
    /// They read the same.
    Same,
    /// Every number in them is within 5 % of the other's.
    Near,
    /// They are times within 30 days of each other.
    Month,
    /// They are the same options of a mount, besides those that the kernel or a container engine puts in.
    Options,
}

/// Options of a mount that follow from the size of the memory, or name the layers of one container.
const PUT_IN: [&str; 12] = [
    "size=",
    "nr_inodes=",
    "nr_blocks=",
    "lowerdir=",
    "upperdir=",
    "workdir=",
    "lowerdir+=",
    "fd=",
    "pgrp=",
    "pipe_ino=",
    "subvolid=",
    "huge=",
];

#[derive(Debug, Default)]
pub struct Variants {
    pub each: Vec<Variant>,
    /// Nodes with values that are not told apart any more.
    pub rest: NodeSet,
}

#[derive(Debug)]
pub struct Variant {
    /// As the first of its nodes says it; empty where it says nothing.
    pub text: Box<str>,
    size: Size,
    pub nodes: NodeSet,
}

#[derive(Debug)]
enum Size {
    None,
    Numbers(Box<[f64]>),
    Seconds(i64),
}

impl Variants {
    /// `text` is what is shown, `value` what it was made of. Returns the bytes that are kept of it.
    pub fn add(&mut self, node: usize, alike: Alike, text: &str, value: &Value) -> usize {
        let text = match alike {
            Alike::Options => settled_options(text),
            Alike::Month => text.split('T').next().unwrap_or_default().to_owned(),
            Alike::Same | Alike::Near => text.to_owned(),
        };
        let size = size(alike, &text, value);
        let same = |variant: &&mut Variant| *variant.text == *text || close(&variant.size, &size);
        if let Some(variant) = self.each.iter_mut().find(same) {
            variant.nodes.insert(node);
            return 0;
        }
        if self.each.len() >= APART {
            self.rest.insert(node);
            return 0;
        }
        let mut nodes = NodeSet::default();
        nodes.insert(node);
        let bytes = text.len() + size_of::<Variant>();
        self.each.push(Variant { text: text.into(), size, nodes });
        bytes
    }

    pub fn nodes(&self) -> NodeSet {
        self.each.iter().fold(self.rest, |nodes, variant| nodes.and(variant.nodes))
    }

    pub fn differ(&self) -> bool {
        self.each.len() > 1 || !self.rest.is_empty()
    }
}

fn size(alike: Alike, text: &str, value: &Value) -> Size {
    match (alike, value) {
        (Alike::Same | Alike::Options, _) => Size::None,
        (Alike::Month, Value::Time(seconds)) => Size::Seconds(*seconds),
        (Alike::Month, _) => Size::None,
        (Alike::Near, value) => {
            let numbers: Option<Box<[f64]>> = match number(value) {
                Some(number) => Some([number].into()),
                // A parameter of several numbers.
                None => text.split_ascii_whitespace().map(|word| word.parse().ok()).collect(),
            };
            numbers.filter(|numbers| !numbers.is_empty()).map_or(Size::None, Size::Numbers)
        }
    }
}

fn close(one: &Size, other: &Size) -> bool {
    match (one, other) {
        (Size::Numbers(one), Size::Numbers(other)) => {
            let near = |(a, b): (&f64, &f64)| (a - b).abs() <= SMALL * a.abs().max(b.abs());
            one.len() == other.len() && one.iter().zip(other).all(near)
        }
        (Size::Seconds(one), Size::Seconds(other)) => {
            one.saturating_sub(*other).saturating_abs() <= DAYS * DAY_SECONDS
        }
        _ => false,
    }
}

fn settled_options(text: &str) -> String {
    let put_in = |option: &&str| PUT_IN.iter().any(|start| option.starts_with(start));
    let mut options: Vec<&str> = text.split(',').filter(|option| !put_in(option)).collect();
    options.sort_unstable();
    options.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apart(alike: Alike, values: &[Value]) -> Vec<(String, usize)> {
        let mut variants = Variants::default();
        for (node, value) in values.iter().enumerate() {
            variants.add(node, alike, &value.to_string(), value);
        }
        variants.each.iter().map(|variant| (variant.text.to_string(), variant.nodes.len())).collect()
    }

    fn code(text: &str) -> Value {
        Value::Code(text.to_owned())
    }

    #[test]
    fn near_numbers_are_one_value_and_others_are_not() {
        let memory = [16_777_216_000, 16_700_000_000, 8_388_608_000].map(Value::Bytes);
        assert_eq!(apart(Alike::Near, &memory), [("15.6 GiB".to_owned(), 2), ("7.81 GiB".to_owned(), 1)]);
        let lists = [code("191271 255030 382542"), code("191280 255041 382560"), code("191271 255030")];
        assert_eq!(apart(Alike::Near, &lists).len(), 2);
        assert_eq!(apart(Alike::Same, &lists).len(), 3);
        assert_eq!(apart(Alike::Near, &[code("unlimited"), code("65536"), code("unlimited")]).len(), 2);
        assert_eq!(apart(Alike::Near, &[code(""), code(""), Value::Count(0)]).len(), 2);
    }

    #[test]
    fn certificates_of_one_month_end_together() {
        let ends = [1_796_990_400, 1_797_590_400, 1_827_619_200].map(Value::Time);
        assert_eq!(apart(Alike::Month, &ends), [("2026-12-11".to_owned(), 2), ("2027-12-01".to_owned(), 1)]);
    }

    #[test]
    fn options_of_a_mount_are_the_same_in_any_order_and_size() {
        let options = [code("rw,size=1638400k,mode=755"), code("mode=755,size=8k,rw"), code("rw,mode=700")];
        assert_eq!(
            apart(Alike::Options, &options),
            [("mode=755,rw".to_owned(), 2), ("mode=700,rw".to_owned(), 1)]
        );
    }

    #[test]
    fn the_values_that_are_told_apart_are_bounded() {
        let values: Vec<Value> = (0..100).map(Value::Count).collect();
        let mut variants = Variants::default();
        for (node, value) in values.iter().enumerate() {
            variants.add(node, Alike::Same, &value.to_string(), value);
        }
        assert_eq!(
            (variants.each.len(), variants.rest.len(), variants.nodes().len()),
            (APART, 100 - APART, 100)
        );
    }
}
