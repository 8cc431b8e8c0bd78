//! What the command line says.

/// What `--help` prints. The head of `main.rs` says what the figures mean.
pub(crate) const USAGE: &str = "\
usage: cargo bench --bench load -- MODE [OPTION…]

Nothing is run without a mode: most take a minute, thousands of sockets and both processors.

modes:
  fanout        CPU and delay of a delivery, beside axum with shared bytes
  many          19,000 clients at an event a second, against 1,000
  stalled       1,000 that do not read beside 1,000 that do
  storm         5,000 dropped at once, back within three seconds
  drain         10,000 streams closed over ten seconds
  idle          memory of a client that is only there
  instructions  user instructions of a delivery (needs valgrind)
  requests      requests a second against the bare application (needs wrk)

options:
  --clients N            as the mode says
  --rates LIST           events a second (10,1000)
  --bytes LIST           of an event's data (200,2100)
  --seconds N            of a window (5)
  --rounds N             of which the median is taken (3)
  --transports LIST      of sse, ws, http2 (sse); ws needs --features ws
  --server-cpus LIST     processors of the server (0)
  --client-cpus LIST     processors of the clients (1)
  --json                 lines of JSON in the place of tables
";

/// See [`USAGE`].
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) clients: Option<usize>,
    pub(crate) rates: Vec<f64>,
    pub(crate) bytes: Vec<usize>,
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) transports: Vec<String>,
    pub(crate) server_cpus: String,
    pub(crate) client_cpus: String,
    pub(crate) json: bool,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            clients: None,
            rates: vec![10.0, 1000.0],
            bytes: vec![200, 2100],
            seconds: 5.0,
            rounds: 3,
            transports: vec!["sse".to_owned()],
            server_cpus: "0".to_owned(),
            client_cpus: "1".to_owned(),
            json: false,
        };
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            if name == "--json" {
                options.json = true;
                continue;
            }
            let mut value = || {
                let value = arguments.next();
                value.ok_or_else(|| format!("{name} takes a value"))
            };
            let mut list = || numbers(value()?).map_err(|error| format!("{name} {error}"));
            match &**name {
                "--clients" => options.clients = Some(one(name, &list()?)?),
                "--rates" => {
                    let rates = positive(name, list()?)?;
                    options.rates = rates.into_iter().map(|rate| rate as f64).collect();
                }
                "--bytes" => options.bytes = positive(name, list()?)?,
                "--seconds" => options.seconds = one(name, &list()?)? as f64,
                "--rounds" => options.rounds = one(name, &list()?)?,
                "--transports" => {
                    options.transports = value()?.split(',').map(str::to_owned).collect();
                    let known = |name: &String| ["sse", "ws", "http2"].contains(&&**name);
                    if !options.transports.iter().all(known) {
                        return Err(format!("{name} takes some of sse, ws, http2"));
                    }
                    let ws = options.transports.iter().any(|name| name == "ws");
                    if ws && !cfg!(feature = "ws") {
                        return Err(format!("{name} takes ws only with --features ws"));
                    }
                }
                "--server-cpus" => options.server_cpus = processors(&list()?),
                "--client-cpus" => options.client_cpus = processors(&list()?),
                _ => return Err(format!("{name} is not an option")),
            }
        }
        Ok(options)
    }
}

/// One whole number from 1.
fn one(name: &str, list: &[usize]) -> Result<usize, String> {
    match list {
        &[number] if number > 0 => Ok(number),
        _ => Err(format!("{name} takes one whole number from 1")),
    }
}

/// Whole numbers from 1.
fn positive(name: &str, list: Vec<usize>) -> Result<Vec<usize>, String> {
    match list.contains(&0) {
        false => Ok(list),
        true => Err(format!("{name} takes whole numbers from 1")),
    }
}

fn processors(numbers: &[usize]) -> String {
    let texts: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    texts.join(",")
}

/// `1,2,3`
pub(crate) fn numbers(list: &str) -> Result<Vec<usize>, String> {
    let number = |item: &str| {
        item.parse()
            .map_err(|_| format!("takes whole numbers with commas between them, not {item:?}"))
    };
    list.split(',').map(number).collect()
}
