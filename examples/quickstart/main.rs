//! A REST API, Pogo in front of it, and a page in which two windows stay in step.
//!
//! `cargo run --release --example quickstart`, then open the address that it prints.
#![allow(clippy::print_stdout, reason = "a program for the terminal says there what to try")]

mod api;
mod front;
mod store;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use clap::Parser;
use pogo::server::{Options, Server};
use tokio::net::TcpListener;

/// An example REST API with Pogo in front of it.
#[derive(Parser)]
struct Arguments {
    /// Where Pogo listens.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Where the example API listens.
    #[arg(long, default_value_t = 3000)]
    api_port: u16,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("quickstart: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|fault| format!("no runtime: {fault}"))?;
    let pogo = runtime.block_on(async {
        let api = listen(arguments.api_port, "--api-port").await?;
        let api_address = address(&api)?;
        let front = listen(arguments.port, "--port").await?;
        let front_address = address(&front)?;
        drop(front); // It was there to find out whether the port is free.
        let pogo = start_pogo(front_address, api_address)
            .map_err(|fault| format!("Pogo does not start: {fault}"))?;
        print_what_to_try(front_address, api_address);
        tokio::select! {
            ended = api::serve(api) => ended.map_err(|fault| format!("the API ended: {fault}"))?,
            signal = tokio::signal::ctrl_c() => {
                signal.map_err(|fault| format!("no signals: {fault}"))?;
                println!("\nbye");
            }
        }
        Ok::<_, String>(pogo)
    })?;
    // Sockets are told that this ends (1001).
    pogo.drain().map_err(|fault| format!("Pogo ended badly: {fault}"))
}

/// Embedding Pogo: its options, and a server that runs on threads of its own.
fn start_pogo(listen: SocketAddr, api: SocketAddr) -> std::io::Result<Server> {
    let mut options = Options { listen, ..Options::default() };
    options.upstream.origin = api.to_string().parse().map_err(std::io::Error::other)?;
    front::configure(&mut options);
    Server::start(options)
}

async fn listen(port: u16, option: &str) -> Result<TcpListener, String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).await.map_err(|fault| match fault.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("port {port} is taken by another program; choose another with {option} PORT")
        }
        _ => format!("cannot listen on {address}: {fault}"),
    })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, String> {
    listener.local_addr().map_err(|fault| format!("no local address: {fault}"))
}

fn print_what_to_try(pogo: SocketAddr, api: SocketAddr) {
    println!(
        r#"
  The example API      http://{api}
  Pogo in front of it  http://{pogo}

  Open this in two windows, and choose a user in each:

      http://{pogo}/app

  Watch the list from another terminal, as nobody and as Alice:

      cargo run --release -- watch /items --url ws://{pogo}
      cargo run --release -- watch /items --url ws://{pogo} --token alice-token

  Change something over plain HTTP; every window and watcher follows:

      curl -i http://{pogo}/items -H 'Content-Type: application/json' -d '{{"title":"Buy milk"}}'
      curl -i -X PATCH http://{pogo}/items/1 -H 'Content-Type: application/json' -d '{{"done":true}}'
      curl -s http://{pogo}/items -H 'Authorization: Bearer alice-token'

  Or speak the protocol with any WebSocket client on ws://{pogo} :

      {{"id":1,"event":"auth","data":{{"token":"alice-token"}}}}
      {{"id":2,"event":"bind","uri":"/items","version":null}}
      {{"id":3,"event":"update","uri":"/items/2","data":{{"title":"Book the night train"}}}}

  Ctrl-C ends it.
"#
    );
}
