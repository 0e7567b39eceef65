//! What every client command is told about the server it talks to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::client::Settings;
use crate::net::address::Address;
use crate::units;

/// The server of a client command, as typed.
#[derive(Debug, Clone, Args)]
pub struct RemoteArgs {
    /// The server: HOST:PORT, http://HOST:PORT or unix:/path
    #[arg(value_name = "ADDR", value_parser = Address::to_connect)]
    pub address: Address,

    /// File with the bearer token to show; without it, the variable FOREBAY_TOKEN holds the token, if any
    #[arg(long, env = "FOREBAY_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// How long the server may be silent
    #[arg(long, env = "FOREBAY_TIMEOUT", value_name = "DURATION", default_value = "60s",
          value_parser = units::duration(Duration::from_millis(1), Duration::from_secs(24 * 60 * 60)))]
    pub timeout: Duration,
}

impl RemoteArgs {
    /// Reads the token, and returns all there is to know of the server.
    pub fn resolve(&self) -> anyhow::Result<Arc<Settings>> {
        let token = match &self.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the token file {}", path.display()))?;
                let token = text.lines().map(str::trim).find(|line| !line.is_empty());
                Some(token.with_context(|| format!("the token file {} is empty", path.display()))?.to_owned())
            }
            None => match std::env::var("FOREBAY_TOKEN") {
                Ok(token) => Some(token.trim().to_owned()).filter(|token| !token.is_empty()),
                Err(std::env::VarError::NotPresent) => None,
                Err(error) => return Err(error).context("FOREBAY_TOKEN cannot be used"),
            },
        };
        Ok(Arc::new(Settings { address: self.address.clone(), token, timeout: self.timeout }))
    }
}
