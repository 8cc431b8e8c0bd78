//! The command line: few flags, so no parser is brought in for them.

use std::{ffi::OsString, time::Duration};

use axum::http::Uri;

pub(crate) const HELP: &str = "\
An OpenAI-compatible gateway that shows its own traffic, live.

Usage: gateway [FLAGS]

  --addr HOST:PORT      where to listen                     (default 127.0.0.1:8080; port 0 picks a free one)
  --traffic N           simulated requests a second, 0 for none   (default 40; 0 with --upstream)
  --upstream URL        pass /v1/* on to this OpenAI-compatible server instead of the simulated providers.
                        Plain http only: put a TLS-terminating proxy in front of an https one. Tokens of a streamed
                        answer are known when the client asks for them (\"stream_options\": {\"include_usage\": true}).
  --token T             viewers must send this bearer token (default: loopback only, where loopback is also admin)
  --admin-token T       admins must send this one; needs --token
  --max-clients N       live viewers at most
  --stall-timeout S     seconds without progress after which a viewer is let go
  --help                this text

Other settings are read from the environment, for example REALTIME_HEARTBEAT_INTERVAL=10s. Those about who may look
(REALTIME_ACCESS and the tokens) are refused: that is for the flags.
Ctrl-C and SIGTERM drain the streams and end within two seconds.
";

#[derive(Debug)]
pub(crate) enum Command {
    Run(Box<Flags>),
    Help,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Flags {
    pub(crate) addr: String,
    pub(crate) traffic: Option<f64>,
    pub(crate) upstream: Option<Uri>,
    /// Viewers' token, and that of admins.
    pub(crate) tokens: Option<(String, Option<String>)>,
    pub(crate) max_clients: Option<usize>,
    pub(crate) stall_timeout: Option<Duration>,
}

/// Takes `--flag value` and `--flag=value`. The error is a sentence that names the flag and what it takes.
pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut flags = Flags {
        addr: "127.0.0.1:8080".to_owned(),
        traffic: None,
        upstream: None,
        tokens: None,
        max_clients: None,
        stall_timeout: None,
    };
    let (mut token, mut admin_token) = (None, None);

    let mut args = args.map(|arg| {
        arg.into_string()
            .map_err(|arg| format!("{} is not UTF-8", arg.display()))
    });
    while let Some(arg) = args.next() {
        let arg = arg?;
        let (flag, inline) = match arg.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        if matches!(flag, "--help" | "-h") {
            return Ok(Command::Help);
        }
        let known = [
            "--addr",
            "--traffic",
            "--upstream",
            "--token",
            "--admin-token",
            "--max-clients",
            "--stall-timeout",
        ];
        if !known.contains(&flag) {
            return Err(format!("unknown flag {flag}"));
        }
        let value = match inline {
            Some(value) => value,
            None => args
                .next()
                .ok_or_else(|| format!("{flag} needs a value"))??,
        };
        let wrong = |takes: &str| format!("{flag} takes {takes}, not {value:?}");
        match flag {
            "--addr" => {
                let port = value.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
                if !matches!(port, Some(Ok(_))) {
                    return Err(wrong("HOST:PORT"));
                }
                flags.addr = value;
            }
            "--traffic" => {
                let rate = value
                    .parse()
                    .ok()
                    .filter(|rate| (0.0..=10_000.0).contains(rate));
                flags.traffic = Some(rate.ok_or_else(|| wrong("a number from 0 to 10000"))?);
            }
            "--upstream" => {
                let uri = value
                    .parse::<Uri>()
                    .ok()
                    .filter(|uri| uri.scheme_str() == Some("http") && uri.authority().is_some());
                flags.upstream = Some(uri.ok_or_else(|| wrong("an http:// URL"))?);
            }
            "--max-clients" => {
                let clients = value.parse().ok().filter(|clients| *clients > 0);
                flags.max_clients = Some(clients.ok_or_else(|| wrong("a number from 1 on"))?);
            }
            "--stall-timeout" => {
                let seconds = value
                    .parse()
                    .ok()
                    .filter(|s: &f64| (0.1..=86_400.0).contains(s));
                let seconds = seconds.ok_or_else(|| wrong("seconds from 0.1 to 86400"))?;
                flags.stall_timeout = Some(Duration::from_secs_f64(seconds));
            }
            // A token is never repeated in a message.
            _ if value.is_empty() => {
                return Err(format!("{flag} takes a token, not an empty text"));
            }
            "--token" => token = Some(value),
            _ => admin_token = Some(value),
        }
    }
    flags.tokens = match (token, admin_token) {
        (Some(viewer), admin) => Some((viewer, admin)),
        (None, Some(_)) => return Err("--admin-token needs --token beside it".to_owned()),
        (None, None) => None,
    };
    Ok(Command::Run(Box::new(flags)))
}
