//! The peers' configurations, as one would write them to be fast: connections kept on both sides, no access log.

use std::net::SocketAddr;

/// What a proxy is asked to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    pub(crate) upstream: SocketAddr,
    pub(crate) workers: usize,
    /// HTTP/2 without TLS, by prior knowledge.
    pub(crate) http2: bool,
}

/// Where Debian puts the module that is not part of nginx.
pub(crate) const NCHAN: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

pub(crate) fn nginx(front: &Front) -> String {
    let Front { address, upstream, http2, .. } = front;
    let protocol = if *http2 { " http2" } else { "" };
    let server = format!(
        "upstream api {{ server {upstream}; keepalive 64; keepalive_requests 10000000; }}
    server {{
        listen {address}{protocol} backlog=1024;
        location / {{
            proxy_pass http://api;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
        }}
    }}"
    );
    nginx_around(front.workers, "", &server)
}

/// Subscribers are WebSockets on `/items/…`; what is PUT on the same path reaches them. Nothing is proxied.
pub(crate) fn nchan(front: &Front) -> String {
    let address = front.address;
    let server = format!(
        "nchan_shared_memory_size 256M;
    server {{
        listen {address} backlog=1024;
        location ~ ^/(.+)$ {{
            nchan_pubsub websocket http;
            nchan_channel_id $1;
            nchan_message_buffer_length 1;
            nchan_subscriber_first_message newest;
        }}
    }}"
    );
    nginx_around(front.workers, &format!("load_module {NCHAN};"), &server)
}

fn nginx_around(workers: usize, modules: &str, server: &str) -> String {
    format!(
        "{modules}
daemon off;
worker_processes {workers};
worker_rlimit_nofile 65536;
pid nginx.pid;
error_log error.log crit;
events {{ worker_connections 32768; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_requests 10000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {server}
}}
"
    )
}

pub(crate) fn haproxy(front: &Front) -> String {
    let Front { address, upstream, workers, http2 } = front;
    let protocol = if *http2 { " proto h2" } else { "" };
    format!(
        "global
    nbthread {workers}
    maxconn 12000
    no strict-limits
    no log
defaults
    mode http
    timeout connect 5s
    timeout client 75s
    timeout server 60s
    timeout http-keep-alive 75s
    http-reuse always
    option forwardfor
frontend front
    bind {address}{protocol} backlog 1024
    default_backend api
backend api
    server api {upstream} pool-max-conn 64
"
    )
}
