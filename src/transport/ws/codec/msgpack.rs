//! JSON as MessagePack and back, for the subprotocol `msgpack`: the same objects, in binary messages.

use rmp_serde::{Deserializer, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Kind};

/// How deep a client's message may be nested; commands need four levels.
const MAX_DEPTH: usize = 32;

/// Writes compact JSON as MessagePack. Done once an event, not once a reader.
///
/// # Errors
/// The text is not JSON, or is nested deeper than serde_json reads (128).
pub(crate) fn from_json(json: &[u8]) -> Result<Vec<u8>, Error> {
    let value: Value = serde_json::from_slice(json)
        .map_err(|error| Error::new(Kind::Invalid, "event is not JSON").with_source(error))?;
    // MessagePack comes out at about three quarters of the JSON.
    let mut out = Vec::with_capacity(json.len());
    Packed(&value)
        .serialize(&mut Serializer::new(&mut out))
        .map_err(|error| Error::new(Kind::Invalid, "event does not pack").with_source(error))?;
    Ok(out)
}

/// Reads one MessagePack value of what JSON knows: no binary, no extension types, text as keys.
///
/// # Errors
/// The bytes are not that, are nested deeper than 32 levels, or go on behind the value.
pub(crate) fn to_json(packed: &[u8]) -> Result<Value, Error> {
    let mut rest = packed;
    let mut deserializer = Deserializer::new(&mut rest);
    deserializer.set_max_depth(MAX_DEPTH);
    let value = Value::deserialize(&mut deserializer).map_err(|error| {
        Error::new(Kind::Invalid, "message is not MessagePack").with_source(error)
    })?;
    if !rest.is_empty() {
        return Err(Error::new(
            Kind::Invalid,
            "message goes on behind its MessagePack value",
        ));
    }
    Ok(value)
}

/// Serialises a [`Value`] without `Value`'s own impl, which turns numbers into a private map when anything in the
/// host's build turns on serde_json's `arbitrary_precision`.
struct Packed<'a>(&'a Value);

impl Serialize for Packed<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(flag) => serializer.serialize_bool(*flag),
            Value::String(text) => serializer.serialize_str(text),
            Value::Array(items) => serializer.collect_seq(items.iter().map(Packed)),
            Value::Object(map) => {
                serializer.collect_map(map.iter().map(|(key, value)| (key, Packed(value))))
            }
            Value::Number(number) => {
                if let Some(number) = number.as_u64() {
                    serializer.serialize_u64(number)
                } else if let Some(number) = number.as_i64() {
                    serializer.serialize_i64(number)
                } else {
                    // Beyond 64 bits or with a fraction; JSON has no other numbers.
                    serializer.serialize_f64(number.as_f64().unwrap_or(f64::NAN))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_bytes_are_the_specifications() {
        assert_eq!(
            from_json(br#"{"a":[1,-1,null,true]}"#).unwrap(),
            [0x81, 0xA1, b'a', 0x94, 0x01, 0xFF, 0xC0, 0xC3]
        );
        assert_eq!(from_json(b"300").unwrap(), [0xCD, 0x01, 0x2C]);
        assert_eq!(
            from_json(b"0.5").unwrap(),
            [0xCB, 0x3F, 0xE0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            from_json(b"18446744073709551615").unwrap(),
            [0xCF, 255, 255, 255, 255, 255, 255, 255, 255]
        );
    }

    #[test]
    fn an_envelope_is_shorter_and_the_same() {
        let envelope = json!({
            "type": "request", "timestamp": "2026-02-05T10:30:00Z", "id": "1738723890-1", "channel": "requests",
            "data": {"status_code": 200, "latency_ms": 150.125, "estimated_cost": null, "success": true, "labels": {}},
        });
        let json = envelope.to_string();
        let packed = from_json(json.as_bytes()).unwrap();
        assert!(packed.len() < json.len());
        assert_eq!(to_json(&packed).unwrap(), envelope);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        assert!(from_json(b"{").unwrap_err().is_invalid());
        assert!(from_json(b"\xFF").unwrap_err().is_invalid());
    }

    #[test]
    fn what_json_does_not_know_is_refused() {
        for (bytes, what) in [
            (&[][..], "nothing"),
            (&[0xC1], "a reserved byte"),
            (&[0xC4, 1, 0], "binary"),
            (&[0xD4, 1, 0], "an extension"),
            (&[0x81, 0x01, 0x01], "a number as key"),
            (&[0xA2, 0xFF, 0xFE], "text that is not UTF-8"),
            (&[0x01, 0x01], "a second value"),
            (
                &[0xDD, 0xFF, 0xFF, 0xFF, 0xFF],
                "an array of four thousand million, of which none comes",
            ),
        ] {
            assert!(to_json(bytes).unwrap_err().is_invalid(), "{what}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| {
            let mut bytes = vec![0x91; depth];
            bytes.push(0xC0);
            to_json(&bytes)
        };
        assert!(nested(16).is_ok());
        assert!(nested(60_000).is_err());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            // The shortest decimal of a number reads back as that number only with `float_roundtrip`.
            (-1_000_000i32..1_000_000).prop_map(|n| Value::from(f64::from(n) / 64.0)),
            "\\PC{0,40}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 20, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
                proptest::collection::btree_map("[a-z]{0,8}", inner, 0..20)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn there_and_back(value in any_json()) {
            let packed = from_json(value.to_string().as_bytes()).unwrap();
            prop_assert_eq!(to_json(&packed).unwrap(), value);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = to_json(&bytes);
        }
    }
}
