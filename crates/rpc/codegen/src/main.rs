//! How is `crates/rpc/src/gen` made from `crates/rpc/proto`?
//!
//! `cargo run --manifest-path crates/rpc/codegen/Cargo.toml` writes the generated code;
//! with `-- --check` it writes nothing and fails when the checked-in code is not what would be generated.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context as _, bail, ensure};

const PROTOS: [&str; 4] = [
    "tidemark/quorum/v1/quorum.proto",
    "tidemark/replication/v1/replication.proto",
    "tidemark/admin/v1/admin.proto",
    "tidemark/transaction/v1/transaction.proto",
];

fn main() -> anyhow::Result<()> {
    let check = match env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => bail!("unknown argument {other:?}: want nothing or --check"),
    };
    let rpc = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("codegen lies in crates/rpc")?;
    let committed = rpc.join("src/gen");
    let scratch = tempfile::tempdir()?;
    let out = if check { scratch.path() } else { &committed };
    generate(&rpc.join("proto"), out)?;
    if check {
        compare(&committed, out)?;
    }
    Ok(())
}

fn generate(include: &Path, out: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(out)?;
    let descriptors = protox::compile(PROTOS, [include])?;
    tonic_prost_build::configure()
        .out_dir(out)
        .emit_rerun_if_changed(false)
        // Record batches and metadata are slices of the received frame, never copies.
        .bytes(".")
        .codec_path("crate::codec::FrameCodec")
        .compile_fds(descriptors)?;
    Ok(())
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut names = fs::read_dir(folder)?
        .map(|entry| Ok(PathBuf::from(entry?.file_name())))
        .collect::<anyhow::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn compare(committed: &Path, generated: &Path) -> anyhow::Result<()> {
    let names = files(generated)?;
    ensure!(
        names == files(committed)?,
        "the files in {} are not {names:?}",
        committed.display()
    );
    for name in names {
        ensure!(
            fs::read(committed.join(&name))? == fs::read(generated.join(&name))?,
            "{} is not what the .proto files generate: run the generator without --check",
            committed.join(&name).display()
        );
    }
    Ok(())
}
