//! Which Rust code do the message tables stand for? Reads `tables/*.table`, writes `OUT_DIR/messages.rs` and `OUT_DIR/arbitrary.rs`.
//!
//! The table language is described in `tables/README.md`; plain std, so that building the codec needs nothing else.

#[path = "build/emit.rs"]
mod emit;
#[path = "build/emit_arbitrary.rs"]
mod emit_arbitrary;
#[path = "build/emit_codec.rs"]
mod emit_codec;
#[path = "build/model.rs"]
mod model;
#[path = "build/parse.rs"]
mod parse;

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    rerun_if_changed(&["tables", "build", "build.rs"]);

    let mut paths = fs::read_dir(root.join("tables"))?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "table"));
    paths.sort();

    let mut tables = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path)?;
        let table = parse::table(&text).map_err(|e| format!("{}:{e}", path.display()))?;
        table
            .check()
            .map_err(|e| format!("{}: {e}", path.display()))?;
        tables.push(table);
    }
    tables.sort_by_key(|table| table.api.as_ref().map_or(i16::MAX, |api| api.key));

    fs::write(out.join("messages.rs"), emit::messages(&tables))?;
    fs::write(out.join("arbitrary.rs"), emit_arbitrary::module(&tables))?;
    Ok(())
}

#[allow(clippy::print_stdout)] // this is how a build script speaks to cargo
fn rerun_if_changed(paths: &[&str]) {
    for path in paths {
        println!("cargo::rerun-if-changed={path}");
    }
}
