//! warden: see `warden --help`.

fn main() -> std::process::ExitCode {
    warden::cli::run()
}
