//! What the command line says.

/// See the head of `main.rs`.
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
    pub(crate) fn parse(arguments: &[String]) -> Self {
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
            let mut value = || {
                arguments
                    .next()
                    .unwrap_or_else(|| panic!("{name} wants a value"))
            };
            match &**name {
                "--clients" => options.clients = Some(numbers(value())[0]),
                "--rates" => {
                    options.rates = numbers(value()).iter().map(|rate| *rate as f64).collect()
                }
                "--bytes" => options.bytes = numbers(value()),
                "--seconds" => options.seconds = numbers(value())[0] as f64,
                "--rounds" => options.rounds = numbers(value())[0],
                "--transports" => {
                    options.transports = value().split(',').map(str::to_owned).collect()
                }
                "--server-cpus" => options.server_cpus = value().clone(),
                "--client-cpus" => options.client_cpus = value().clone(),
                "--json" => options.json = true,
                _ => panic!("{name} is not an option; the head of benches/load/main.rs lists them"),
            }
        }
        options
    }
}

/// `1,2,3`
pub(crate) fn numbers(list: &str) -> Vec<usize> {
    let number = |item: &str| {
        item.parse()
            .unwrap_or_else(|_| panic!("{item:?} is not a number"))
    };
    list.split(',').map(number).collect()
}
