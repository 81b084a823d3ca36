//! papo-server: parses its settings, sets up telemetry, runs. With the subcommand `say` it is a client instead.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use papo_protocol::Launch;
use papo_server::Say;
use papo_telemetry::Settings;

/// Serves one chat room: its page, and Socket.IO.
///
/// The room's messages are a log. Without --broker this process keeps the log, and it ends with the process. With --broker
/// amqp://... RabbitMQ keeps the log, and any number of servers share it.
#[derive(Parser)]
#[command(
    name = "papo-server",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    launch: Launch,
}

#[derive(Subcommand)]
enum Command {
    /// Sends one message to a room and prints its acknowledgement
    Say(Say),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { command, launch } = Cli::parse();
    let result = match command {
        Some(Command::Say(say)) => papo_server::say(&say).await,
        None => serve(launch).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("papo-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(launch: Launch) -> anyhow::Result<()> {
    let log_format = launch.log_format.as_deref().map(str::parse).transpose()?;
    let settings = Settings {
        service_name: "papo-server",
        log_filter: launch.log_filter.clone(),
        log_format,
    };
    let _guard = papo_telemetry::init(&settings)?;
    papo_server::run(launch).await
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_without_a_subcommand_serve() {
        let cli = Cli::parse_from(["papo-server", "--room", "a/b"]);
        assert!(cli.command.is_none());
        assert_eq!(
            cli.launch,
            Launch::parse_from(["papo-server", "--room", "a/b"])
        );
    }

    #[test]
    fn say_takes_a_url_and_a_text() {
        let cli = Cli::parse_from(["papo-server", "say", "--url", "http://chat-geral", "olá"]);
        assert!(matches!(cli.command, Some(Command::Say(_))));
        for wrong in ["chat-geral", "ftp://chat-geral", "http://"] {
            let parsed = Cli::try_parse_from(["papo-server", "say", "--url", wrong, "olá"]);
            assert!(parsed.is_err(), "{wrong}");
        }
    }
}
