//! Prices of models, and what a request's tokens cost.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::error::{Error, Kind};

/// What one model costs per million tokens, in units of the configured currency.
///
/// ```
/// # use tower_realtime::Price;
/// let price = Price::new(2.50, 10.00).cached(1.25);
/// ```
///
/// In a configuration file: `{"input_per_million": 2.5, "output_per_million": 10, "cached_per_million": 1.25}`.
/// A price takes 0 to 1,000,000,000; `0` is free, which is something else than unknown.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Price {
    /// For a million input (prompt) tokens.
    pub input_per_million: f64,
    /// For a million output (completion) tokens.
    pub output_per_million: f64,
    /// For a million input tokens that the provider read from its cache. `None`: the same as any input token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_per_million: Option<f64>,
}

impl Price {
    /// A price per million input and per million output tokens; cached input costs the same as any other input.
    pub fn new(input_per_million: f64, output_per_million: f64) -> Self {
        Self {
            input_per_million,
            output_per_million,
            cached_per_million: None,
        }
    }

    /// Sets what a million input tokens cost that were read from the provider's cache.
    #[must_use]
    pub fn cached(mut self, per_million: f64) -> Self {
        self.cached_per_million = Some(per_million);
        self
    }

    fn rates(&self) -> Result<Rates, &'static str> {
        let input = nanos(self.input_per_million).ok_or("input_per_million")?;
        Ok(Rates {
            input,
            output: nanos(self.output_per_million).ok_or("output_per_million")?,
            cached: match self.cached_per_million {
                Some(cached) => nanos(cached).ok_or("cached_per_million")?,
                None => input,
            },
        })
    }
}

/// What the models of a host cost. Prices change, so none are built in: the host gives those it pays.
///
/// The exact name of a model decides; without one, the longest entry that ends in `*` and whose beginning fits.
/// A lone `*` fits every model. A model that nothing fits stays unpriced: its requests are counted in
/// `unpriced_requests`, and their cost is unknown, never 0.
///
/// ```
/// # use tower_realtime::{Price, PriceTable};
/// let prices = PriceTable::new()
///     .model("gpt-4o", Price::new(2.50, 10.00).cached(1.25))
///     .model("claude-sonnet-*", Price::new(3.00, 15.00))
///     .model("llama-*", Price::new(0.0, 0.0));
/// ```
///
/// In a configuration file, an object of names and prices. Costs are added up in whole billionths of the currency
/// unit, so that a sum never drifts.
#[derive(Clone, Default, PartialEq)]
pub struct PriceTable {
    entries: BTreeMap<String, Entry>,
    /// The beginnings of the entries that end in `*`, longest first.
    prefixes: Vec<(String, Entry)>,
}

#[derive(Clone, Copy, PartialEq)]
struct Entry {
    price: Price,
    /// `None`: the price is wrong, and the entry prices nothing.
    rates: Option<Rates>,
}

/// The same in billionths of the currency unit per million tokens.
#[derive(Clone, Copy, PartialEq)]
struct Rates {
    input: u64,
    output: u64,
    cached: u64,
}

impl PriceTable {
    /// A table without any price: every model is unpriced.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the price of a model, or of all models that begin with what stands before a final `*`.
    ///
    /// A price that is not a number from 0 to 1,000,000,000 is kept, but prices nothing:
    /// [`validate`](Self::validate), and with it the layer's configuration, names it.
    #[must_use]
    pub fn model(mut self, name: impl Into<String>, price: Price) -> Self {
        self.insert(name.into(), price);
        self
    }

    /// How many entries the table has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the table has no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The price that a model has, if anything fits it.
    pub fn price_of(&self, model: &str) -> Option<&Price> {
        self.find(model).map(|entry| &entry.price)
    }

    /// Checks every price.
    ///
    /// # Errors
    ///
    /// The first entry with an empty name, or with a price that is negative, not a number or above 1,000,000,000.
    pub fn validate(&self) -> Result<(), Error> {
        for (name, Entry { price, .. }) in &self.entries {
            if name.is_empty() {
                return Err(Error::new(
                    Kind::Config,
                    "prices has an entry without a name: it takes the name of a model, or its beginning and a *",
                ));
            }
            if let Err(field) = price.rates() {
                let value = match field {
                    "input_per_million" => price.input_per_million,
                    "output_per_million" => price.output_per_million,
                    _ => price.cached_per_million.unwrap_or_default(),
                };
                return Err(Error::new(
                    Kind::Config,
                    format!(
                        "prices: {field} of {name:?} is {value}: it takes a number from 0 to {MAX_PER_MILLION}"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// What a request cost, in billionths of the currency unit, rounded to the nearest; `None` where no entry
    /// prices the model. `cached` is the part of `input` that came from a cache.
    pub(crate) fn cost_nanos(
        &self,
        model: &str,
        input: u64,
        output: u64,
        cached: u64,
    ) -> Option<u64> {
        let rates = self.find(model)?.rates?;
        let cached = cached.min(input);
        // At most 3 × 2^64 × 10^18, which is below 2^126.
        let sum = u128::from(input - cached) * u128::from(rates.input)
            + u128::from(cached) * u128::from(rates.cached)
            + u128::from(output) * u128::from(rates.output);
        let nanos = (sum + 500_000) / 1_000_000;
        Some(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn find(&self, model: &str) -> Option<&Entry> {
        let by_prefix = || {
            self.prefixes
                .iter()
                .find(|(prefix, _)| model.starts_with(prefix.as_str()))
                .map(|(_, entry)| entry)
        };
        self.entries.get(model).or_else(by_prefix)
    }

    fn insert(&mut self, name: String, price: Price) {
        let rates = price.rates().ok();
        let entry = Entry { price, rates };
        if let Some(prefix) = name.strip_suffix('*') {
            self.prefixes.retain(|(known, _)| known != prefix);
            self.prefixes.push((prefix.to_owned(), entry));
            self.prefixes
                .sort_by_key(|(known, _)| std::cmp::Reverse(known.len()));
        }
        self.entries.insert(name, entry);
    }
}

impl fmt::Debug for PriceTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prices = self.entries.iter().map(|(name, entry)| (name, entry.price));
        f.debug_map().entries(prices).finish()
    }
}

impl<N: Into<String>> FromIterator<(N, Price)> for PriceTable {
    fn from_iter<I: IntoIterator<Item = (N, Price)>>(entries: I) -> Self {
        entries
            .into_iter()
            .fold(Self::new(), |table, (name, price)| table.model(name, price))
    }
}

impl Serialize for PriceTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.entries.iter().map(|(name, entry)| (name, entry.price)))
    }
}

impl<'de> Deserialize<'de> for PriceTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table: Self = BTreeMap::<String, Price>::deserialize(deserializer)?
            .into_iter()
            .collect();
        table.validate().map_err(D::Error::custom)?;
        Ok(table)
    }
}

/// Enough for any currency, and 10^18 billionths still fit a `u64`.
const MAX_PER_MILLION: f64 = 1_000_000_000.0;

fn nanos(amount: f64) -> Option<u64> {
    (0.0..=MAX_PER_MILLION)
        .contains(&amount)
        .then(|| (amount * 1e9).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> PriceTable {
        PriceTable::new()
            .model("gpt-4o", Price::new(2.50, 10.00).cached(1.25))
            .model("gpt-4o-*", Price::new(0.15, 0.60))
            .model("gpt-*", Price::new(30.0, 60.0))
            .model("free", Price::new(0.0, 0.0))
    }

    #[test]
    fn exact_name_first_then_the_longest_prefix() {
        let table = table();
        assert_eq!(
            table.cost_nanos("gpt-4o", 1_000_000, 0, 0),
            Some(2_500_000_000)
        );
        assert_eq!(
            table.cost_nanos("gpt-4o-mini", 1_000_000, 0, 0),
            Some(150_000_000)
        );
        assert_eq!(
            table.cost_nanos("gpt-3", 1_000_000, 0, 0),
            Some(30_000_000_000)
        );
        assert_eq!(table.cost_nanos("claude", 1_000_000, 0, 0), None);
        assert_eq!(table.cost_nanos("", 1, 1, 0), None);
        assert_eq!(table.cost_nanos("free", 812, 340, 0), Some(0));
        let all = table.model("*", Price::new(1.0, 1.0));
        assert_eq!(
            all.cost_nanos("claude", 1_000_000, 0, 0),
            Some(1_000_000_000)
        );
        assert_eq!(
            all.cost_nanos("gpt-3", 0, 1_000_000, 0),
            Some(60_000_000_000)
        );
        assert_eq!(all.price_of("gpt-4o-mini"), Some(&Price::new(0.15, 0.60)));
        assert_eq!(all.price_of("claude"), Some(&Price::new(1.0, 1.0)));
    }

    #[test]
    fn cached_tokens_are_part_of_the_input() {
        let table = table();
        // 600 × 2.50 + 400 × 1.25 + 100 × 10 per million.
        assert_eq!(table.cost_nanos("gpt-4o", 1_000, 100, 400), Some(3_000_000));
        // More cached than read at all is cut to the input.
        assert_eq!(table.cost_nanos("gpt-4o", 1_000, 0, 5_000), Some(1_250_000));
        // Without a price of its own, a cached token costs what any other does.
        assert_eq!(
            table.cost_nanos("gpt-3", 1_000, 0, 400),
            table.cost_nanos("gpt-3", 1_000, 0, 0)
        );
    }

    #[test]
    fn costs_are_rounded_to_the_nearest_and_saturate() {
        let table = PriceTable::new()
            .model("m", Price::new(0.0005, 0.0))
            .model("dear", Price::new(1e9, 1e9));
        assert_eq!(table.cost_nanos("m", 1, 0, 0), Some(1));
        assert_eq!(table.cost_nanos("m", 3, 0, 0), Some(2));
        assert_eq!(
            table.cost_nanos("dear", u64::MAX, u64::MAX, 0),
            Some(u64::MAX)
        );
    }

    #[test]
    fn a_later_price_replaces_the_earlier_one() {
        let table = table()
            .model("gpt-*", Price::new(1.0, 1.0))
            .model("gpt-4o", Price::new(2.0, 2.0));
        assert_eq!(table.len(), 4);
        assert_eq!(
            table.cost_nanos("gpt-3", 1_000_000, 0, 0),
            Some(1_000_000_000)
        );
        assert_eq!(
            table.cost_nanos("gpt-4o", 1_000_000, 0, 0),
            Some(2_000_000_000)
        );
    }

    #[test]
    fn a_wrong_price_is_named_and_prices_nothing() {
        for (price, text) in [
            (
                Price::new(-1.0, 0.0),
                "prices: input_per_million of \"gpt-x\" is -1: it takes a number from 0 to 1000000000",
            ),
            (
                Price::new(0.0, f64::NAN),
                "prices: output_per_million of \"gpt-x\" is NaN: it takes a number from 0 to 1000000000",
            ),
            (
                Price::new(0.0, 0.0).cached(f64::INFINITY),
                "prices: cached_per_million of \"gpt-x\" is inf: it takes a number from 0 to 1000000000",
            ),
        ] {
            let table = table().model("gpt-x", price);
            let error = table.validate().unwrap_err();
            assert!(error.is_config());
            assert_eq!(error.to_string(), text);
            assert_eq!(table.cost_nanos("gpt-x", 1, 1, 1), None);
            let table = self::table().model("gpt-*", price);
            let table = table.model("*", Price::new(1.0, 1.0));
            assert_eq!(table.cost_nanos("gpt-3", 1, 1, 1), None);
        }
        assert!(
            PriceTable::new()
                .model("", Price::new(1.0, 1.0))
                .validate()
                .is_err()
        );
        assert!(table().validate().is_ok());
    }

    #[test]
    fn serde_round_trip() {
        let json = r#"{"gpt-*":{"input_per_million":30.0,"output_per_million":60.0},"gpt-4o":{"input_per_million":2.5,"output_per_million":10.0,"cached_per_million":1.25}}"#;
        let table: PriceTable = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&table).unwrap(), json);
        assert_eq!(table.cost_nanos("gpt-4o", 0, 0, 0), Some(0));
        let unknown = serde_json::from_str::<PriceTable>(
            r#"{"m":{"input_per_million":1,"output_per_million":1,"per_image":2}}"#,
        );
        assert!(unknown.unwrap_err().to_string().contains("per_image"));
        let negative = serde_json::from_str::<PriceTable>(
            r#"{"m":{"input_per_million":-1,"output_per_million":1}}"#,
        );
        assert!(
            negative
                .unwrap_err()
                .to_string()
                .contains("input_per_million of \"m\" is -1")
        );
    }
}
