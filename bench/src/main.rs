//! How fast is a Kafka-compatible cluster, beside another in the same run?

mod load;

fn main() -> anyhow::Result<()> {
    load::run()
}
