//! Keeps chat rooms as their `ChatRoom` resources say. See [`papo_operator`].

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use kube::CustomResourceExt;
use papo_operator::{
    config::{Cli, Command},
    crd::ChatRoom,
};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Crd => print_crd(),
        Command::Run(_) => Ok(ExitCode::FAILURE),
    }
}

fn print_crd() -> anyhow::Result<ExitCode> {
    let yaml = serde_saphyr::to_string(&ChatRoom::crd()).context("the CRD as YAML")?;
    print!("{yaml}");
    Ok(ExitCode::SUCCESS)
}
