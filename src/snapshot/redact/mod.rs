//! Stub.
use std::borrow::Cow;
pub struct Redactor;
#[derive(Clone, Copy)]
pub enum Shape {
    Log,
    Plain,
    Json,
    UnitProperties,
}
impl Shape {
    pub fn of_path(_: &str) -> Shape {
        Shape::Plain
    }
}
#[derive(Default)]
pub struct Receipt {
    pub counts: std::collections::BTreeMap<String, u64>,
}
impl Redactor {
    pub fn new(_: [u8; 32]) -> Self {
        Redactor
    }
    pub fn redact<'a>(&self, _: Shape, t: &'a str) -> Cow<'a, str> {
        t.into()
    }
    pub fn sweep<'a>(&self, t: &'a str) -> Cow<'a, str> {
        t.into()
    }
    pub fn hits(&self, _: &[u8]) -> usize {
        0
    }
    pub fn receipt(&self) -> Receipt {
        Receipt::default()
    }
}
