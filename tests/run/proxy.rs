//! A wire that can be cut: a TCP proxy on loopback.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::starter::LOOPBACK;

pub struct Proxy {
    pub address: SocketAddr,
    pairs: Arc<Mutex<Vec<TcpStream>>>,
    stalled: Arc<AtomicBool>,
}

impl Proxy {
    pub fn start(target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind((LOOPBACK, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let pairs: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let stalled: Arc<AtomicBool> = Arc::default();
        let (all, stall) = (Arc::clone(&pairs), Arc::clone(&stalled));
        // Both threads live as long as the test's process, or their connection.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(target) else { continue };
                let copy = |stream: &TcpStream| stream.try_clone().expect("a socket");
                all.lock().expect("no thread panics").extend([copy(&client), copy(&server)]);
                pump(copy(&client), copy(&server), Arc::clone(&stall));
                pump(server, client, Arc::clone(&stall));
            }
        });
        Proxy { address, pairs, stalled }
    }

    /// Ends all connections, so that both ends see it.
    pub fn cut(&self) {
        for stream in self.pairs.lock().expect("no thread panics").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// From now on nothing gets through, and neither end can know.
    pub fn stall(&self) {
        self.stalled.store(true, Ordering::SeqCst);
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, stalled: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let mut part = [0; 16384];
        while let Ok(length @ 1..) = from.read(&mut part) {
            if !stalled.load(Ordering::SeqCst) && to.write_all(&part[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
