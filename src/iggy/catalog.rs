//! What the metadata knows: the names of streams and topics, and which partitions there are. Operations are applied as
//! the server applies them.
//!
//! Read from `core/metadata/src/stm/stream.rs` and `core/binary_protocol/src/requests` of 0.9.0-edge.5, and from
//! `core/server/src/state` of 0.8.0.

use std::collections::BTreeMap;

use super::bytes::u32_at;

/// Streams, or topics of one stream, that are kept; the server takes 4096 and less.
const MOST: usize = 65_536;
/// A name is at most so long: its length is one byte.
const LONGEST_NAME: usize = 255;
/// Bytes of an operation in which everything that is read of it stands: two identifiers and a name.
pub const LONGEST_HEAD: usize = 3 * (LONGEST_NAME + 2) + 64;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    pub streams: BTreeMap<u64, Stream>,
    /// The server rejects some operations for a missing right, which is not looked at. From the first on that may have
    /// been rejected, no number can be told any more.
    pub is_uncertain: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Unknown where it may or may not have been renamed.
    pub name: Option<String>,
    pub topics: BTreeMap<u64, Topic>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    pub name: Option<String>,
}

/// What an operation does to the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<'b> {
    /// The number is told by 0.8, and the lowest free one in 0.9.
    CreateStream {
        id: Option<u64>,
        name: &'b str,
    },
    UpdateStream {
        stream: Identifier<'b>,
        name: &'b str,
    },
    DeleteStream {
        stream: Identifier<'b>,
    },
    CreateTopic {
        stream: Identifier<'b>,
        id: Option<u64>,
        name: &'b str,
    },
    UpdateTopic {
        stream: Identifier<'b>,
        topic: Identifier<'b>,
        name: &'b str,
    },
    DeleteTopic {
        stream: Identifier<'b>,
        topic: Identifier<'b>,
    },
}

/// How a request names a stream or a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identifier<'b> {
    Number(u64),
    Name(&'b str),
}

impl Catalog {
    /// Applies a change that the server surely applied, or rejected for what the catalog itself tells.
    pub fn apply(&mut self, change: &Change<'_>) {
        match change {
            Change::CreateStream { id, name } => {
                let taken = self.streams.values().any(|stream| stream.name.as_deref() == Some(*name));
                if !taken && self.streams.len() < MOST {
                    let id = id.unwrap_or_else(|| lowest_free(&self.streams));
                    self.streams.insert(id, Stream { name: Some((*name).to_owned()), ..Stream::default() });
                }
            }
            Change::UpdateStream { stream, name } => {
                if let Some(stream) = self.stream(*stream) {
                    stream.name = Some((*name).to_owned());
                }
            }
            Change::DeleteStream { stream } => {
                if let Some(id) = self.stream_id(*stream) {
                    self.streams.remove(&id);
                }
            }
            Change::CreateTopic { stream, id, name } => {
                let Some(stream) = self.stream(*stream) else { return };
                let taken = stream.topics.values().any(|topic| topic.name.as_deref() == Some(*name));
                if !taken && stream.topics.len() < MOST {
                    let id = id.unwrap_or_else(|| lowest_free(&stream.topics));
                    stream.topics.insert(id, Topic { name: Some((*name).to_owned()) });
                }
            }
            Change::UpdateTopic { stream, topic, name } => {
                let Some(stream) = self.stream(*stream) else { return };
                let id = topic_id(stream, *topic);
                if let Some(topic) = id.and_then(|id| stream.topics.get_mut(&id)) {
                    topic.name = Some((*name).to_owned());
                }
            }
            Change::DeleteTopic { stream, topic } => {
                let Some(stream) = self.stream(*stream) else { return };
                if let Some(id) = topic_id(stream, *topic) {
                    stream.topics.remove(&id);
                }
            }
        }
    }

    /// Takes note of a change that the server may have rejected: what it would have changed is no longer known.
    pub fn doubt(&mut self, change: &Change<'_>) {
        self.is_uncertain = true;
        match change {
            Change::CreateStream { .. } => {}
            Change::UpdateStream { stream, .. } | Change::DeleteStream { stream } => {
                if let Some(stream) = self.stream(*stream) {
                    *stream = Stream::default();
                }
            }
            Change::CreateTopic { stream, .. }
            | Change::UpdateTopic { stream, .. }
            | Change::DeleteTopic { stream, .. } => {
                if let Some(stream) = self.stream(*stream) {
                    stream.topics.clear();
                }
            }
        }
    }

    fn stream(&mut self, identifier: Identifier<'_>) -> Option<&mut Stream> {
        let id = self.stream_id(identifier)?;
        self.streams.get_mut(&id)
    }

    fn stream_id(&self, identifier: Identifier<'_>) -> Option<u64> {
        match identifier {
            Identifier::Number(id) => Some(id),
            Identifier::Name(name) => {
                let named = |(_, stream): &(&u64, &Stream)| stream.name.as_deref() == Some(name);
                self.streams.iter().find(named).map(|(&id, _)| id)
            }
        }
    }
}

fn topic_id(stream: &Stream, identifier: Identifier<'_>) -> Option<u64> {
    match identifier {
        Identifier::Number(id) => Some(id),
        Identifier::Name(name) => {
            let named = |(_, topic): &(&u64, &Topic)| topic.name.as_deref() == Some(name);
            stream.topics.iter().find(named).map(|(&id, _)| id)
        }
    }
}

fn lowest_free<T>(taken: &BTreeMap<u64, T>) -> u64 {
    let mut free = 0;
    for &id in taken.keys() {
        if id != free {
            break;
        }
        free += 1;
    }
    free
}

/// Goes over the fields of a request.
pub struct Request<'b>(pub &'b [u8]);

impl<'b> Request<'b> {
    pub fn take(&mut self, bytes: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|bytes| u32_at(bytes, 0))
    }

    pub fn name(&mut self) -> Option<&'b str> {
        let length = usize::from(self.take(1)?[0]);
        std::str::from_utf8(self.take(length)?).ok()
    }

    pub fn identifier(&mut self) -> Option<Identifier<'b>> {
        let kind = self.take(1)?[0];
        let length = usize::from(self.take(1)?[0]);
        let value = self.take(length)?;
        match (kind, length) {
            (1, 4) => Some(Identifier::Number(u64::from(u32_at(value, 0)))),
            (2, 1..) => std::str::from_utf8(value).ok().map(Identifier::Name),
            _ => None,
        }
    }
}

impl<'b> Change<'b> {
    /// Of an operation in the journal of 0.9; `None` where it changes no names. `body` may be cut behind
    /// [`LONGEST_HEAD`].
    pub fn of_operation(operation: u8, body: &'b [u8]) -> Option<Change<'b>> {
        let mut request = Request(body);
        Some(match operation {
            64 => {
                request.u32()?;
                let stream = request.identifier()?;
                request.u32()?;
                Change::CreateTopic { stream, id: None, name: request.name()? }
            }
            128 => Change::CreateStream { id: None, name: request.name()? },
            129 => Change::UpdateStream { stream: request.identifier()?, name: request.name()? },
            130 => Change::DeleteStream { stream: request.identifier()? },
            133 => Change::UpdateTopic {
                stream: request.identifier()?,
                topic: request.identifier()?,
                name: request.name()?,
            },
            134 => Change::DeleteTopic { stream: request.identifier()?, topic: request.identifier()? },
            _ => return None,
        })
    }

    /// Of a command in the state log of 0.8.
    pub fn of_command(code: u32, command: &'b [u8]) -> Option<Change<'b>> {
        /// Compression, expiry, largest size, replication factor.
        const SETTINGS: usize = 1 + 8 + 8 + 1;
        let mut request = Request(command);
        Some(match code {
            202 => {
                let id = Some(u64::from(request.u32()?));
                request.u32()?;
                Change::CreateStream { id, name: request.name()? }
            }
            203 => Change::DeleteStream { stream: request.identifier()? },
            204 => Change::UpdateStream { stream: request.identifier()?, name: request.name()? },
            302 => {
                let id = Some(u64::from(request.u32()?));
                request.u32()?;
                let stream = request.identifier()?;
                request.take(4 + SETTINGS)?;
                Change::CreateTopic { stream, id, name: request.name()? }
            }
            303 => Change::DeleteTopic { stream: request.identifier()?, topic: request.identifier()? },
            304 => {
                let (stream, topic) = (request.identifier()?, request.identifier()?);
                request.take(SETTINGS)?;
                Change::UpdateTopic { stream, topic, name: request.name()? }
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(catalog: &Catalog) -> Vec<(u64, Option<&str>)> {
        catalog.streams.iter().map(|(&id, stream)| (id, stream.name.as_deref())).collect()
    }

    #[test]
    fn numbers_are_given_as_the_server_gives_them() {
        let mut catalog = Catalog::default();
        let create = |name| Change::CreateStream { id: None, name };
        for name in ["a", "b", "c", "b"] {
            catalog.apply(&create(name));
        }
        assert_eq!(names(&catalog), [(0, Some("a")), (1, Some("b")), (2, Some("c"))], "a name is taken once");
        catalog.apply(&Change::DeleteStream { stream: Identifier::Name("b") });
        catalog.apply(&Change::DeleteStream { stream: Identifier::Number(0) });
        catalog.apply(&create("d"));
        catalog.apply(&Change::UpdateStream { stream: Identifier::Number(2), name: "e" });
        assert_eq!(names(&catalog), [(0, Some("d")), (2, Some("e"))], "the lowest free number comes first");
        let stream = Identifier::Name("e");
        catalog.apply(&Change::CreateTopic { stream, id: None, name: "t" });
        catalog.apply(&Change::CreateTopic { stream, id: None, name: "u" });
        catalog.apply(&Change::UpdateTopic { stream, topic: Identifier::Name("u"), name: "v" });
        catalog.apply(&Change::DeleteTopic { stream, topic: Identifier::Number(0) });
        let topics = &catalog.streams[&2].topics;
        assert_eq!(
            topics.iter().map(|(&id, topic)| (id, topic.name.as_deref())).collect::<Vec<_>>(),
            [(1, Some("v"))]
        );
    }

    #[test]
    fn what_the_server_may_have_rejected_is_not_told() {
        let mut catalog = Catalog::default();
        for name in ["a", "b"] {
            catalog.apply(&Change::CreateStream { id: None, name });
        }
        catalog.doubt(&Change::UpdateStream { stream: Identifier::Name("b"), name: "x" });
        assert_eq!((names(&catalog), catalog.is_uncertain), (vec![(0, Some("a")), (1, None)], true));
    }

    #[test]
    fn operations_are_read_as_the_server_writes_them() {
        assert_eq!(
            Change::of_operation(128, b"\x06orders\0\0"),
            Some(Change::CreateStream { id: None, name: "orders" })
        );
        let topic = b"\x14\0\0\0\x01\x04\x07\0\0\0\x03\0\0\0\x07created";
        let stream = Identifier::Number(7);
        assert_eq!(
            Change::of_operation(64, topic),
            Some(Change::CreateTopic { stream, id: None, name: "created" })
        );
        assert_eq!(
            Change::of_operation(130, b"\x02\x05tmp80"),
            Some(Change::DeleteStream { stream: Identifier::Name("tmp80") })
        );
        // As it stands in the state log of a server of 0.8.0.
        let old = b"\0\0\0\0\x2e\0\0\0\x02\x0ebench-stream-1\x01\0\0\0\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\x07topic-1";
        let stream = Identifier::Name("bench-stream-1");
        assert_eq!(
            Change::of_command(302, old),
            Some(Change::CreateTopic { stream, id: Some(0), name: "topic-1" })
        );
        for length in 0..topic.len() {
            assert_eq!(Change::of_operation(64, &topic[..length]), None, "cut at {length}");
        }
        assert_eq!(Change::of_operation(141, b"\x05alice"), None, "users are nothing of ours");
    }
}
