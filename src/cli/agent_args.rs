//! Which agent of this host is meant: by its configuration, or by the folder of `warden up --dir`.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::agent::Settings;
use crate::config::fragments;

#[derive(Clone, Debug, clap::Args)]
pub struct Which {
    /// The folder of warden.toml, which tells where the agent is [default: /etc/warden]
    #[arg(long, value_name = "FOLDER")]
    config: Option<PathBuf>,

    /// The folder that was given to `warden up --dir`
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Which {
    pub fn config(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(fragments::FOLDER))
    }

    /// As a path that holds wherever the agent looks at it from.
    pub fn dir(&self) -> anyhow::Result<Option<PathBuf>> {
        self.dir.as_deref().map(absolute).transpose()
    }

    pub fn settings(&self) -> anyhow::Result<Settings> {
        let settings = Settings::load(self.config())?;
        Ok(match self.dir()? {
            Some(dir) => settings.below(&dir),
            None => settings,
        })
    }

    /// Where its state is. What nobody named and cannot be understood is for the checks to tell, and hides no host.
    pub fn state_directory(&self) -> anyhow::Result<Option<PathBuf>> {
        match self.settings() {
            Ok(settings) => Ok(Some(settings.state_directory)),
            Err(_) if self.config.is_none() && self.dir.is_none() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn start_command(&self) -> String {
        match &self.dir {
            Some(dir) => format!("warden up --dir {}", dir.display()),
            None => "systemctl start warden".to_owned(),
        }
    }
}

pub fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot tell where {} is", path.display()))
}
