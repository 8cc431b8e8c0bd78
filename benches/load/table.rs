//! Rows of figures, for people or as lines of JSON.

use serde_json::{Map, Value, json};

pub(crate) struct Table {
    json: bool,
    rows: Vec<Vec<(&'static str, Value)>>,
}

impl Table {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            rows: Vec::new(),
        }
    }

    /// All rows of a table have the same columns.
    pub(crate) fn row<const N: usize>(&mut self, row: [(&'static str, Value); N]) {
        self.rows.push(row.to_vec());
    }

    pub(crate) fn print(&self) {
        if self.json {
            for row in &self.rows {
                let row: Map<String, Value> = row
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), value.clone()))
                    .collect();
                println!("{}", Value::from(row));
            }
            return;
        }
        let Some(first) = self.rows.first() else {
            return;
        };
        let mut lines = vec![
            first
                .iter()
                .map(|(name, _)| (*name).to_owned())
                .collect::<Vec<_>>(),
        ];
        for row in &self.rows {
            lines.push(row.iter().map(|(_, value)| text(value)).collect());
        }
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
        let widths: Vec<usize> = (0..first.len())
            .map(|column| width(column).unwrap_or(0))
            .collect();
        for line in &lines {
            let cells = line.iter().zip(&widths).zip(first);
            for ((cell, width), (_, value)) in cells {
                match value {
                    Value::String(_) => print!("{cell:<width$}   "),
                    _ => print!("{cell:>width$}   "),
                }
            }
            println!();
        }
    }
}

pub(crate) fn rounded(value: f64, digits: i32) -> Value {
    let scale = 10_f64.powi(digits);
    json!((value * scale).round() / scale)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "–".to_owned(),
        Value::Number(number) => match number.as_f64() {
            Some(value) if value.fract() == 0.0 => format!("{value}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}
