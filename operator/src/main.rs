//! Keeps chat rooms as their `ChatRoom` resources say. See [`papo_operator`].

use anyhow::Context;
use clap::Parser;
use kube::Client;
use papo_operator::{
    config::{Cli, Command, RemoveFinalizers, Run},
    crd, remove_finalizers,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(settings) => run(*settings).await,
        Command::RemoveFinalizers(settings) => uninstall(&settings).await,
        Command::Crd => print_crd(),
    }
}

async fn run(settings: Run) -> anyhow::Result<()> {
    let _telemetry = papo_telemetry::init(&papo_telemetry::Settings {
        service_name: "papo-operator",
        log_filter: settings.log_filter.clone(),
        log_format: settings.log_format,
    })?;
    let stop = papo_telemetry::shutdown_signal().context("listening for signals")?;
    let address = settings.admin_listen;
    let admin = papo_listener::bind(address).with_context(|| format!("listening on {address}"))?;
    papo_operator::run(settings, client().await?, admin, stop).await
}

async fn uninstall(settings: &RemoveFinalizers) -> anyhow::Result<()> {
    let client = client().await?;
    if let Some(operator) = &settings.unless_deployment
        && remove_finalizers::is_installed(&client, operator)
            .await
            .with_context(|| format!("looking for the Deployment {operator}"))?
    {
        println!("the operator {operator} is installed: the rooms keep their finalizers");
        return Ok(());
    }
    let changed = remove_finalizers::remove_finalizers(&client, &settings.namespaces)
        .await
        .context("removing the finalizers of the rooms")?;
    println!("removed the finalizers of {changed} rooms");
    Ok(())
}

async fn client() -> anyhow::Result<Client> {
    Client::try_default()
        .await
        .context("finding the API server")
}

fn print_crd() -> anyhow::Result<()> {
    let definition = crd::definition().context("writing the definition as JSON")?;
    let yaml = serde_saphyr::to_string(&definition).context("writing the definition as YAML")?;
    print!("{yaml}");
    Ok(())
}
