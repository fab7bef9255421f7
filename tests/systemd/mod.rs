//! A real systemd, commanded.

mod sandbox;
