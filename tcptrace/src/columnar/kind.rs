//! The kinds of columns: what a value is in memory, in Parquet, and to whoever writes SQL.

use hashbrown::HashMap;
use parquet::{
    basic::Encoding,
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int32Type, Int64Type},
    errors::Result,
    file::writer::SerializedColumnWriter,
};
use std::net::{IpAddr, Ipv6Addr};

/// A kind of column.
pub trait Kind {
    /// What a row has.
    type Value<'a>;
    /// The same while its row group is collected.
    type Kept;
    /// Parquet's physical type.
    type Physical: DataType;
    /// As a message type of Parquet has it: physical type, and in parentheses what it stands for.
    const PARQUET: [&str; 2];
    /// The word in docs/parquet.md, as DuckDB names the type.
    const SQL: &str;
    /// How values are written; `None`: by their number in a dictionary of the row group.
    const ENCODING: Option<Encoding> = None;

    /// Keeps a value.
    fn keep(value: Self::Value<'_>, texts: &mut Texts) -> Self::Kept;
    /// As it is written.
    fn written(kept: &Self::Kept, texts: &Texts) -> <Self::Physical as DataType>::T;
}

/// A moment: microseconds since 1970, UTC. Not every engine knows nanoseconds.
pub struct Time;
/// A signed number of 64 bits: counts, lengths of time, everything unsigned of 32 bits. SQL may subtract such numbers.
pub struct Long;
/// A small number.
pub struct Int;
/// An identity of 64 bits, unsigned: the kernel counts cookies down from the top, too.
pub struct Id;
/// Yes or no.
pub struct Bool;
/// A word or a name.
pub struct Text;
/// An IP address, as text; in memory of 16 bytes, IPv4 as `::ffff:a.b.c.d`.
pub struct Address;

impl Kind for Time {
    type Value<'a> = i64;
    type Kept = i64;
    type Physical = Int64Type;
    const PARQUET: [&str; 2] = ["int64", " (TIMESTAMP(MICROS,true))"];
    const SQL: &str = "TIMESTAMPTZ";
    const ENCODING: Option<Encoding> = Some(Encoding::DELTA_BINARY_PACKED);

    fn keep(value: i64, _: &mut Texts) -> i64 {
        value
    }

    fn written(kept: &i64, _: &Texts) -> i64 {
        *kept
    }
}

impl Kind for Long {
    type Value<'a> = u64;
    type Kept = i64;
    type Physical = Int64Type;
    const PARQUET: [&str; 2] = ["int64", ""];
    const SQL: &str = "BIGINT";
    const ENCODING: Option<Encoding> = Some(Encoding::DELTA_BINARY_PACKED);

    fn keep(value: u64, _: &mut Texts) -> i64 {
        i64::try_from(value).unwrap_or(i64::MAX)
    }

    fn written(kept: &i64, _: &Texts) -> i64 {
        *kept
    }
}

impl Kind for Id {
    type Value<'a> = u64;
    type Kept = u64;
    type Physical = Int64Type;
    const PARQUET: [&str; 2] = ["int64", " (INTEGER(64,false))"];
    const SQL: &str = "UBIGINT";

    fn keep(value: u64, _: &mut Texts) -> u64 {
        value
    }

    fn written(kept: &u64, _: &Texts) -> i64 {
        kept.cast_signed()
    }
}

impl Kind for Int {
    type Value<'a> = i32;
    type Kept = i32;
    type Physical = Int32Type;
    const PARQUET: [&str; 2] = ["int32", ""];
    const SQL: &str = "INTEGER";

    fn keep(value: i32, _: &mut Texts) -> i32 {
        value
    }

    fn written(kept: &i32, _: &Texts) -> i32 {
        *kept
    }
}

impl Kind for Bool {
    type Value<'a> = bool;
    type Kept = bool;
    type Physical = BoolType;
    const PARQUET: [&str; 2] = ["boolean", ""];
    const SQL: &str = "BOOLEAN";
    const ENCODING: Option<Encoding> = Some(Encoding::PLAIN);

    fn keep(value: bool, _: &mut Texts) -> bool {
        value
    }

    fn written(kept: &bool, _: &Texts) -> bool {
        *kept
    }
}

impl Kind for Text {
    type Value<'a> = &'a str;
    type Kept = u32;
    type Physical = ByteArrayType;
    const PARQUET: [&str; 2] = ["binary", " (STRING)"];
    const SQL: &str = "VARCHAR";

    fn keep(value: &str, texts: &mut Texts) -> u32 {
        texts.number(value)
    }

    fn written(kept: &u32, texts: &Texts) -> ByteArray {
        texts.text(*kept)
    }
}

impl Kind for Address {
    type Value<'a> = [u8; 16];
    type Kept = u32;
    type Physical = ByteArrayType;
    const PARQUET: [&str; 2] = Text::PARQUET;
    const SQL: &str = Text::SQL;

    fn keep(value: [u8; 16], texts: &mut Texts) -> u32 {
        texts.address(value)
    }

    fn written(kept: &u32, texts: &Texts) -> ByteArray {
        texts.text(*kept)
    }
}

/// The texts of a row group, each once.
#[derive(Default)]
pub struct Texts {
    numbers: HashMap<Box<str>, u32>,
    addresses: HashMap<[u8; 16], u32>,
    texts: Vec<ByteArray>,
    bytes: usize,
}

impl Texts {
    /// What they take, roughly.
    pub fn bytes(&self) -> usize {
        // Once as the key, once as the value, and the tables' own places.
        2 * self.bytes + 96 * self.texts.len()
    }

    /// Begins afresh.
    pub fn clear(&mut self) {
        self.numbers.clear();
        self.addresses.clear();
        self.texts.clear();
        self.bytes = 0;
    }

    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        // A row group ends long before there are so many.
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push(ByteArray::from(text));
        self.bytes += text.len();
        self.numbers.insert(text.into(), number);
        number
    }

    fn address(&mut self, bytes: [u8; 16]) -> u32 {
        if let Some(number) = self.addresses.get(&bytes) {
            return *number;
        }
        let number = self.number(&IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical().to_string());
        self.addresses.insert(bytes, number);
        number
    }

    fn text(&self, number: u32) -> ByteArray {
        self.texts.get(number as usize).cloned().unwrap_or_default()
    }
}

/// A column of a row group while it is collected.
pub struct Held<K: Kind> {
    /// Parquet's definition levels: 1 where there is a value.
    levels: Vec<i16>,
    values: Vec<K::Kept>,
}

impl<K: Kind> Default for Held<K> {
    fn default() -> Self {
        Self { levels: Vec::new(), values: Vec::new() }
    }
}

impl<K: Kind> Held<K> {
    /// Appends a row's value.
    pub fn push(&mut self, value: Option<K::Value<'_>>, texts: &mut Texts) {
        self.levels.push(i16::from(value.is_some()));
        self.values.extend(value.map(|value| K::keep(value, texts)));
    }

    /// Writes all of them as a column chunk, and begins afresh. `required`: a column that is never null has no levels.
    pub fn write(&mut self, mut to: SerializedColumnWriter<'_>, texts: &Texts, required: bool) -> Result<()> {
        let values: Vec<_> = self.values.drain(..).map(|kept| K::written(&kept, texts)).collect();
        let levels = (!required).then_some(&*self.levels);
        to.typed::<K::Physical>().write_batch(&values, levels, None)?;
        self.levels.clear();
        to.close()
    }
}
