//! What an operator decides: where a server listens, who may ask, and how much.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};

/// How a server works.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Where it listens; port 0 is any that is free.
    pub address: SocketAddr,
    /// What every request must present. Needed for any address but loopback.
    pub token: Option<Token>,
    /// The folder whose PEFT folders clients may load; none is none.
    pub adapters: Option<PathBuf>,
    /// How much one client may take.
    pub limits: Limits,
}

impl Default for ServeOptions {
    /// Loopback on the usual port, with the default limits.
    fn default() -> ServeOptions {
        ServeOptions {
            address: SocketAddr::from(([127, 0, 0, 1], 8377)),
            token: None,
            adapters: None,
            limits: Limits::default(),
        }
    }
}

impl ServeOptions {
    /// Whether the server may be started like this.
    ///
    /// # Errors
    /// An address that others can reach, without a token.
    pub fn check(&self) -> Result<(), ServeError> {
        match self.address.ip().is_loopback() || self.token.is_some() {
            true => Ok(()),
            false => Err(ServeError::NoToken { address: self.address }),
        }
    }
}

/// How much one client may take. Each has its reason; all are met with an answer that says so, except by clients
/// that do not listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body. The largest self-edit (1 MiB, twice that as text in JSON) fits, together with any
    /// context that a model has room for.
    pub body_bytes: usize,
    /// Time for a request's head to arrive; also how long an idle connection is kept.
    pub head: Duration,
    /// Time for a request's body to arrive.
    pub body: Duration,
    /// Time in which a client must have taken some of an answer.
    pub write: Duration,
    /// Time that an answer may take, self-edits on the way included.
    pub request: Duration,
    /// Connections at the same time; more wait to be accepted. With [`Limits::body_bytes`] this bounds the memory that
    /// bodies take.
    pub connections: usize,
    /// Answers to one request: `n` times the prompts.
    pub choices: usize,
    /// How long running requests may go on after the first order to stop.
    pub grace: Duration,
    /// How long the running edit may go on after that.
    pub finish: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body_bytes: 4 << 20,
            head: Duration::from_secs(15),
            body: Duration::from_secs(20),
            write: Duration::from_secs(30),
            request: Duration::from_secs(900),
            connections: 256,
            choices: 32,
            grace: Duration::from_secs(10),
            finish: Duration::from_secs(60),
        }
    }
}

/// A secret that clients present. Kept as its digest; nothing prints it.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// Characters that a token has at least.
    pub const CHARACTERS_MIN: usize = 16;

    /// Reads a token; white space around it is not part of it.
    ///
    /// # Errors
    /// One that is too short or could not stand in a header.
    pub fn new(text: &str) -> Result<Token, ServeError> {
        let text = text.trim();
        let fits = text.len() >= Token::CHARACTERS_MIN && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !fits {
            return Err(ServeError::BadToken);
        }
        Ok(Token(Sha256::digest(text).into()))
    }

    /// Whether this is the token. The time it takes says nothing about how much of it is right.
    pub fn is(&self, presented: &str) -> bool {
        let presented: [u8; 32] = Sha256::digest(presented).into();
        self.0.iter().zip(presented).fold(0, |differences, (ours, theirs)| differences | (ours ^ theirs)) == 0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Others could reach it, and nothing would stop them.
    #[error("{address} can be reached from other machines, and there is no token that requests must present")]
    NoToken {
        /// The address.
        address: SocketAddr,
    },
    /// A token that is too easy or cannot be sent.
    #[error(
        "the token must have at least {} characters, all of them visible ASCII without spaces",
        Token::CHARACTERS_MIN
    )]
    BadToken,
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The folder of adapters is none.
    #[error("cannot use `{}` as the folder of adapters: {source}", folder.display())]
    Adapters {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_goes_without_a_token() {
        let token = Token::new("0123456789abcdef").expect("a token");
        for (address, token, starts) in [
            ("127.0.0.1:1", None, true),
            ("127.8.9.1:1", None, true),
            ("[::1]:1", None, true),
            ("0.0.0.0:1", None, false),
            ("[::]:1", None, false),
            ("[::ffff:127.0.0.1]:1", None, false),
            ("10.1.2.3:1", None, false),
            ("0.0.0.0:1", Some(token), true),
        ] {
            let address = address.parse().expect("an address");
            let options = ServeOptions { address, token, ..ServeOptions::default() };
            assert_eq!(options.check().is_ok(), starts, "{address}");
        }
    }

    #[test]
    fn a_token_is_compared_whole_and_never_shown() {
        for bad in ["", "short", "0123456789abcde", "with spaces in the middle", "an-umlaut-ä-is-no-ascii"] {
            assert!(matches!(Token::new(bad), Err(ServeError::BadToken)), "{bad}");
        }
        let token = Token::new(" 0123456789abcdef\n").expect("a token");
        for (presented, is) in [
            ("0123456789abcdef", true),
            ("0123456789abcdeg", false),
            ("0123456789abcde", false),
            ("", false),
            ("0123456789abcdef0", false),
        ] {
            assert_eq!(token.is(presented), is, "{presented}");
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }
}
