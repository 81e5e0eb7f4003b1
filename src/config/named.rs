//! The files that a configuration names and that are read with it.

use std::path::PathBuf;

use super::Loaded;

impl Loaded {
    /// Those that nothing but a reload reads again. The deny list and the certificate for clients
    /// are not among them: the server follows these by itself, so that a new one is no new
    /// configuration.
    pub fn files(&self) -> Vec<PathBuf> {
        let Self { config, document } = self;
        let jwt = config.auth.jwt.as_ref();
        let tls = &config.upstream_tls;
        let named = [
            jwt.and_then(|jwt| jwt.secret_file.as_ref()),
            jwt.and_then(|jwt| jwt.public_key_file.as_ref()),
            config.admin.as_ref().and_then(|admin| admin.token_file.as_ref()),
            tls.ca_file.as_ref(),
            tls.client_certificate.as_ref(),
            tls.client_key.as_ref(),
        ];
        named.into_iter().flatten().map(|file| document.beside(file)).collect()
    }

    /// Those that a server follows by itself once it has them. Until then, such as when a reload
    /// was refused for one of them, nobody would see it mended.
    pub fn followed_files(&self) -> Vec<PathBuf> {
        let Self { config, document } = self;
        let tls = config.tls.as_ref();
        let named = [
            config.gate.deny_file.as_ref(),
            tls.and_then(|tls| tls.certificate.as_ref()),
            tls.and_then(|tls| tls.key.as_ref()),
        ];
        named.into_iter().flatten().map(|file| document.beside(file)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::parse;

    /// Each key whose value is the name of a file, so that none is forgotten.
    #[test]
    fn every_file_that_the_shipped_file_shows_is_among_them() {
        let shipped = include_str!("../../pogo.toml");
        let mut keys = Vec::new();
        for line in shipped.lines().filter_map(|line| line.strip_prefix('#')) {
            if let Some((key, value)) = line.split_once(" = \"")
                && [".pem", ".secret", ".token", ".txt"].iter().any(|it| value.contains(it))
            {
                keys.push(key);
            }
        }
        keys.sort_unstable();
        assert_eq!(
            keys,
            [
                "ca_file",
                "certificate",
                "client_certificate",
                "client_key",
                "deny_file",
                "key",
                "public_key_file",
                "secret_file",
                "token_file"
            ]
        );
        let text = "upstream = \"https://api\"\n\
            [auth.jwt]\nsecret_file = \"a\"\n\
            [admin]\ntoken_file = \"c\"\n\
            [upstream_tls]\nca_file = \"/d\"\nclient_certificate = \"e\"\nclient_key = \"f\"\n\
            [gate]\ndeny_file = \"g\"\n\
            [tls]\ncertificate = \"h\"\nkey = \"i\"\n";
        let other = parse(&text.replace("secret_file = \"a\"", "public_key_file = \"b\"")).unwrap();
        let loaded = parse(text).unwrap();
        let names = |files: &[std::path::PathBuf]| {
            files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(&loaded.files()), ["a", "c", "/d", "e", "f"]);
        assert_eq!(names(&other.files())[0], "b");
        assert_eq!(names(&loaded.followed_files()), ["g", "h", "i"]);
        assert!(Path::new(&loaded.files()[2]).is_absolute());
    }
}
