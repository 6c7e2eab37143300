//! Does every message of the codec survive bytes that nobody wrote, and come back equal when it was read?

use bytes::{Bytes, BytesMut};
use wire::Message;

/// One message at one version.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    /// Kafka's name of the message.
    pub name: &'static str,
    /// The version that is read and written.
    pub version: i16,
    /// Reads the bytes; panics if what was read cannot be written, or is read back as something else.
    pub check: fn(Bytes, i16),
    /// The message with its defaults, if the version can carry them.
    pub default: fn(i16) -> Option<Bytes>,
}

fn check<M: Message>(bytes: Bytes, version: i16) {
    let Ok(read) = M::decode_exact(bytes, version) else {
        return;
    };
    let mut buf = BytesMut::new();
    let written = read.encode(&mut buf, version);
    assert!(
        written.is_ok(),
        "{} v{version} was read and cannot be written: {written:?} {read:?}",
        M::NAME
    );
    let again = M::decode_exact(buf.freeze(), version);
    // Not `==` between values: a float that is no number differs from itself.
    let (again, read) = (format!("{again:?}"), format!("Ok({read:?})"));
    assert_eq!(again, read, "{} v{version}", M::NAME);
}

fn default<M: Message>(version: i16) -> Option<Bytes> {
    let mut buf = BytesMut::new();
    M::default().encode(&mut buf, version).ok()?;
    Some(buf.freeze())
}

fn add<M: Message>(into: &mut Vec<Subject>) {
    into.extend(M::VERSIONS.map(|version| Subject {
        name: M::NAME,
        version,
        check: check::<M>,
        default: default::<M>,
    }));
}

macro_rules! apis {
    ($($api:ident, $request:ident, $response:ident, $a:ident, $b:ident;)*) => {
        fn apis(into: &mut Vec<Subject>) {
            $(add::<wire::messages::$request>(into); add::<wire::messages::$response>(into);)*
        }
    };
}
macro_rules! records {
    ($($message:ident, $module:ident;)*) => {
        fn records(into: &mut Vec<Subject>) {
            $(add::<wire::messages::$message>(into);)*
        }
    };
}
wire::for_each_api!(apis);
wire::for_each_record!(records);

/// Every message at every version, in an order that stays.
#[must_use]
pub fn all() -> Vec<Subject> {
    let mut subjects = Vec::new();
    apis(&mut subjects);
    records(&mut subjects);
    subjects
}
