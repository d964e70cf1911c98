//! What must not be shown, and how a text is rid of it.

use url::Url;

/// The secrets of a URL.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

/// What stands for a secret.
const HIDDEN: &str = "***";
/// A shorter password is hidden only where a URL shows it: taking every `a` out of a text helps nobody.
const SHORTEST: usize = 4;

impl Secrets {
    /// The password, as it is and as the URL spells it.
    pub(crate) fn of(url: &Url) -> Secrets {
        let in_query = url.query_pairs().filter(|(key, _)| key == "password").map(|(_, value)| value.into_owned());
        let mut found: Vec<String> = in_query.collect();
        // The driver takes it from there, as libpq does.
        found.extend(std::env::var("PGPASSWORD"));
        if let Some(password) = url.password() {
            found.push(password.to_owned());
            found.extend(decode(password));
        }
        found.retain(|secret| secret.len() >= SHORTEST);
        Secrets(found)
    }

    /// The text without the secrets, and without the password of any other URL in it.
    pub fn hide(&self, text: &str) -> String {
        let hidden = self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN));
        hide_in_urls(&hidden)
    }
}

fn decode(text: &str) -> Option<String> {
    // The query's decoder is the one that the crate has; a plus sign means itself in a password.
    let escaped = format!("p={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(escaped.as_bytes()).map(|(_, value)| value.into_owned()).next()
}

/// Replaces `pw` in `scheme://user:pw@host`.
fn hide_in_urls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'')).unwrap_or(after.len());
        rest = match (after[..end].find(':'), after[..end].rfind('@')) {
            (Some(colon), Some(at)) if colon < at => {
                out.push_str(&after[..=colon]);
                out.push_str(HIDDEN);
                &after[at..]
            }
            _ => after,
        };
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_as_they_are_and_as_they_are_spelled() {
        let url = Url::parse("postgres://app:ge%21heim@db/orders?password=zweites").expect("a URL");
        let secrets = Secrets::of(&url);
        let text = "pw ge!heim or ge%21heim or zweites, at mysql://me:pw@db/x and http://db:80/ and redis://:p@h";
        let expected = "pw *** or *** or ***, at mysql://me:***@db/x and http://db:80/ and redis://:***@h";
        assert_eq!(secrets.hide(text), expected);
    }

    #[test]
    fn short_passwords_are_hidden_in_urls_only() {
        let url = Url::parse("postgres://app:a@db/orders").expect("a URL");
        assert_eq!(
            Secrets::of(&url).hide("a cat at postgres://app:a@db/orders"),
            "a cat at postgres://app:***@db/orders"
        );
    }
}
