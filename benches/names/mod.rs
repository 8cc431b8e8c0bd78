//! The command line of the benches that print tables: names choose among them, none is all.

/// The tables that are wanted. `--help` prints the usage, and an option that there is not ends the program with it.
///
/// cargo adds `--bench`, and `cargo bench -- NAME` gives the name to every bench of the package. So a name that is
/// found in none of these is no mistake: nothing is wanted here, and the program says so.
pub(crate) fn chosen<'a>(known: &[&'a str], usage: &str) -> Vec<&'a str> {
    let (options, names): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .partition(|argument| argument.starts_with('-'));
    match options.first().map(String::as_str) {
        None => {}
        Some("--help" | "-h") => {
            print!("{usage}");
            std::process::exit(0);
        }
        Some(option) => {
            eprint!("{option} is not an option\n\n{usage}");
            std::process::exit(2);
        }
    }
    let wanted =
        |known: &&&str| names.is_empty() || names.iter().any(|name| known.contains(&**name));
    let chosen: Vec<_> = known.iter().filter(wanted).copied().collect();
    if chosen.is_empty() {
        eprintln!(
            "nothing here is called {}: there is {}",
            names.join(" or "),
            known.join(", ")
        );
    }
    chosen
}
