//! Where the members of a collection are, as routes say it.

use super::{Check, Fault, Kind, Route};

impl Check<'_> {
    /// Where the members of a collection are.
    pub(super) fn pointers(&self, section: &str, route: &Route) -> Result<(), Fault> {
        const MOST_PLACES: usize = 16;
        let key = |name: &str| format!("{section}.{name}");
        if route.items.len() > MOST_PLACES {
            return self.refuse(&key("items"), format!("at most {MOST_PLACES} places"));
        }
        let places = route.items.iter().enumerate();
        let places = places.map(|(place, pointer)| (key(&format!("items.{place}")), pointer));
        let uri = route.item_uri.iter().map(|pointer| (key("item_uri"), pointer));
        for (key, pointer) in places.chain([(key("item_id"), &route.item_id)]).chain(uri) {
            if !pointer.is_empty() && !pointer.starts_with('/') {
                let found = format!("{pointer:?}");
                let expected = r#"a JSON pointer such as "/data/items""#.into();
                return Err(self.document.fault(&key, Kind::Value { found, expected }));
            }
        }
        Ok(())
    }
}
