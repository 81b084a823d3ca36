//! papo-server: parses its settings, sets up telemetry, and runs the server.

use std::process::ExitCode;

use clap::Parser;
use papo_protocol::Launch;
use papo_telemetry::Settings;

#[tokio::main]
async fn main() -> ExitCode {
    match start(Launch::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("papo-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(launch: Launch) -> anyhow::Result<()> {
    let log_format = launch.log_format.as_deref().map(str::parse).transpose()?;
    let settings = Settings {
        service_name: "papo-server",
        log_filter: launch.log_filter.clone(),
        log_format,
    };
    let _guard = papo_telemetry::init(&settings)?;
    papo_server::run(launch).await
}
