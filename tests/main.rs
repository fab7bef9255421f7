//! Warden from outside, a file a subject.

mod canary;
mod cli;
mod conformance;
mod hangs;
mod hosts;
mod report;
mod scale;
mod support;
mod walls;
