//! Keeps chat rooms as their `ChatRoom` resources say. See [`papo_operator`].

use anyhow::Context;
use clap::Parser;
use kube::{Client, CustomResourceExt};
use papo_operator::{
    config::{Cli, Command, Run},
    crd::ChatRoom,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(settings) => run(*settings).await,
        Command::Crd => print_crd(),
    }
}

async fn run(settings: Run) -> anyhow::Result<()> {
    let _telemetry = papo_telemetry::init(&papo_telemetry::Settings {
        service_name: "papo-operator",
        log_filter: settings.log.clone(),
        log_format: settings.log_format,
    })?;
    let stop = papo_telemetry::shutdown_signal().context("listening for signals")?;
    let client = Client::try_default()
        .await
        .context("finding the API server")?;
    papo_operator::run(settings, client, stop).await
}

fn print_crd() -> anyhow::Result<()> {
    let yaml = serde_saphyr::to_string(&ChatRoom::crd()).context("the definition as YAML")?;
    print!("{yaml}");
    Ok(())
}
