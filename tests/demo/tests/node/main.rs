//! What is promised, on a real node with a real database: one cluster, with a shop for each test.

mod helm;
mod hold;
mod image_volume;
mod logs;
mod rollouts;
mod upgrade;

use std::sync::LazyLock;

use demo::{Result, Shop, Site};

/// The cluster that all tests share, with the shop's images. It ends with this program.
fn site() -> &'static Site {
    static SITE: LazyLock<Site> = LazyLock::new(|| {
        let set_up = || -> Result<Site> {
            let site = Site::set_up("t-demo", 1)?;
            Shop::load_images(&site)?;
            Ok(site)
        };
        set_up().unwrap_or_else(|error| panic!("no cluster: {error}"))
    });
    &SITE
}
