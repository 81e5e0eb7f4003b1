//! Who is banned; banning by hand, and lifting bans.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Desk;
use super::answer::{Answer, Refusal};
use super::commands::read;
use super::lists::Query;
use crate::gate::Ban;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Banned {
    address: IpAddr,
}

impl Desk {
    /// Those that end first; `?address=` asks for one, `?limit=` for more than usual.
    pub(super) fn bans(&self, query: Option<&str>) -> Result<Answer, Refusal> {
        let query = Query::read(query, &["address", "limit"])?;
        let limit = query.limit()?;
        let address = query.address("address")?;
        let all = self.subject().gate.bans();
        let total = all.len();
        let of_it = |ban: &&Ban| address.is_none_or(|address| ban.network.contains(&address));
        let bans: Vec<Value> = all.iter().filter(of_it).take(limit).map(described).collect();
        Ok(Answer::json(&json!({"bans": bans, "total": total})))
    }

    /// As if the address had offended too often: for as long as `gate.ban` says.
    pub(super) fn ban(&self, body: &[u8]) -> Result<Answer, Refusal> {
        let Banned { address } = read(body)?;
        let address = address.to_canonical();
        if self.subject().gate.trusts(address) {
            let text = format!("{address} is a trusted proxy: its clients would be shut out");
            return Err(Refusal::unprocessable(text));
        }
        let banned = self.subject().gate.ban(address);
        Ok(Answer::json(&json!({"banned": banned})))
    }

    /// Of an address, or of all in a network: `/bans/192.0.2.7`, `/bans/192.0.2.0/24`.
    pub(super) fn lift(&self, address: &str, prefix: Option<&str>) -> Result<Answer, Refusal> {
        let bad = || Refusal::bad_request("an IP address, or a network, is needed");
        let network = match prefix {
            Some(prefix) => format!("{address}/{prefix}").parse().map_err(|_| bad())?,
            None => IpNet::from(address.parse::<IpAddr>().map_err(|_| bad())?),
        };
        match self.subject().gate.lift(network) {
            true => Ok(Answer::json(&json!({"lifted": true}))),
            false => Err(Refusal::not_found()),
        }
    }
}

fn described(ban: &Ban) -> Value {
    json!({
        "network": ban.network.to_string(),
        "cause": ban.cause.to_string(),
        "left_seconds": ban.left.as_secs(),
    })
}
