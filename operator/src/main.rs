//! Keeps chat rooms as their `ChatRoom` resources say. See [`papo_operator`].

use anyhow::Context;
use clap::Parser;
use kube::{Client, CustomResourceExt};
use papo_operator::{
    config::{Cli, Command, Release, Run},
    crd::ChatRoom,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(settings) => run(*settings).await,
        Command::Release(settings) => release(&settings).await,
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
    papo_operator::run(settings, client().await?, stop).await
}

async fn release(settings: &Release) -> anyhow::Result<()> {
    let released = papo_operator::release::release(&client().await?, &settings.namespaces)
        .await
        .context("letting the rooms go")?;
    println!("{released} rooms let go");
    Ok(())
}

async fn client() -> anyhow::Result<Client> {
    Client::try_default()
        .await
        .context("finding the API server")
}

fn print_crd() -> anyhow::Result<()> {
    let yaml = serde_saphyr::to_string(&ChatRoom::crd()).context("the definition as YAML")?;
    print!("{yaml}");
    Ok(())
}
