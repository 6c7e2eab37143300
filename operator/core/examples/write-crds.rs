//! Writes `crds/` anew from the code.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds");
    std::fs::create_dir_all(&folder)?;
    for crd in operator_core::crds() {
        std::fs::write(
            folder.join(operator_core::crd_file_name(&crd)),
            operator_core::crd_yaml(&crd),
        )?;
    }
    Ok(())
}
