//! Tells the program for which machine it is built: its static sibling is in the folder of that name.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=HOST={}", std::env::var("HOST").unwrap_or_default());
}
