//! Which custom resource definitions does the operator need?

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

#[derive(Debug, clap::Args)]
pub(crate) struct CrdArgs {
    /// Write one file a kind into this folder instead of printing all
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &CrdArgs) -> anyhow::Result<ExitCode> {
    for crd in operator_core::crds() {
        let yaml = operator_core::crd_yaml(&crd);
        match &args.out {
            Some(folder) => {
                let path = folder.join(operator_core::crd_file_name(&crd));
                std::fs::write(&path, yaml)
                    .with_context(|| format!("failed to write {}", path.display()))?;
            }
            None => std::io::stdout().write_all(format!("---\n{yaml}").as_bytes())?,
        }
    }
    Ok(ExitCode::SUCCESS)
}
