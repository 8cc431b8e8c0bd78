//! Processes of a run: each takes commands as lines of JSON, and answers each with a line.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;

/// A server, or a process of clients. It ends with this.
pub(crate) struct Process {
    child: Child,
    commands: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
}

impl Process {
    /// This program once more, with other arguments, on some processors; `under` is a program that runs it.
    pub(crate) fn start(processors: &str, under: &[String], arguments: &[&str]) -> Self {
        let this = std::env::current_exe().unwrap();
        let mut command = match under {
            [] => Command::new(this),
            [program, options @ ..] => {
                let mut command = Command::new(program);
                command.args(options).arg(this);
                command
            }
        };
        let mut child = command
            .args(["--on", processors])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let replies = BufReader::new(child.stdout.take().unwrap());
        let commands = child.stdin.take();
        Self {
            child,
            commands,
            replies,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a command; [`reply`](Self::reply) waits for what came of it.
    pub(crate) fn tell(&mut self, command: &Value) {
        let commands = self
            .commands
            .as_mut()
            .expect("the process has not been ended");
        writeln!(commands, "{command}").unwrap();
    }

    pub(crate) fn reply(&mut self) -> Value {
        let mut line = String::new();
        self.replies.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("a process replied {line:?}"))
    }

    pub(crate) fn ask(&mut self, command: &Value) -> Value {
        self.tell(command);
        self.reply()
    }

    /// Lets it end by itself, and waits for that.
    pub(crate) fn end(mut self) {
        self.commands = None;
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a child is told, until its parent has gone.
pub(crate) fn commands() -> impl Iterator<Item = Value> {
    let lines = std::io::stdin().lines().map_while(Result::ok);
    lines.map_while(|line| serde_json::from_str(&line).ok())
}

#[allow(clippy::print_stdout)]
pub(crate) fn reply(value: &Value) {
    println!("{value}");
}
