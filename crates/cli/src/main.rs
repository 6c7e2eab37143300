//! `tidemark`: which subcommand was asked for?

mod args;
mod broker;
mod consume;
mod crd;
mod down;
mod endpoint;
mod groups;
mod logs;
mod operator;
mod produce;
mod state;
mod status;
mod topics;
mod up;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    args::run()
}
