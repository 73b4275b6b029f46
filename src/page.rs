//! The page, as `clients/web` builds it. The files are part of the binary, so no Node is needed to run.

use crate::transport::http::PageFile;

macro_rules! page {
    ($($path:literal $content_type:literal;)*) => {
        &[$(PageFile {
            path: concat!("/", $path),
            content_type: $content_type,
            bytes: include_bytes!(concat!("../clients/web/dist/", $path)),
        }),*]
    };
}

/// Every file of the page.
pub(crate) const FILES: &[PageFile] = page! {
    "index.html" "text/html; charset=utf-8";
    "app.js" "text/javascript; charset=utf-8";
    "links.js" "text/javascript; charset=utf-8";
    "record.js" "text/javascript; charset=utf-8";
    "playout.js" "text/javascript; charset=utf-8";
    "worklets.js" "text/javascript; charset=utf-8";
    "style.css" "text/css; charset=utf-8";
    "icon.svg" "image/svg+xml";
};
