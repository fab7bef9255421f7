//! The way to systemd for as long as a daemon lives: one connection, made when first needed, and made anew when the
//! bus was restarted under it.

use std::time::Duration;

use super::{Error, Manager};

/// How often it is asked whether a broken connection is gone from the bus, which takes the bus some milliseconds.
const ASK_AGAIN: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub struct Bus {
    /// The system bus of this host when absent.
    address: Option<String>,
    manager: tokio::sync::Mutex<Option<Manager>>,
}

impl Bus {
    /// The system bus of this host.
    pub fn system() -> Bus {
        Bus { address: None, manager: tokio::sync::Mutex::default() }
    }

    /// The bus at a D-Bus address, like `unix:path=/run/dbus/system_bus_socket`.
    pub fn at(address: &str) -> Bus {
        Bus { address: Some(address.to_owned()), ..Bus::system() }
    }

    /// # Errors
    /// There is no bus, or no systemd on it.
    pub async fn manager(&self) -> Result<Manager, Error> {
        let mut held = self.manager.lock().await;
        if let Some(manager) = held.as_ref().filter(|manager| !manager.is_closed()) {
            return Ok(manager.clone());
        }
        *held = None;
        let manager = match &self.address {
            None => Manager::connect().await?,
            Some(address) => Manager::connect_to(address).await?,
        };
        Ok(held.insert(manager).clone())
    }

    /// Waits until the bus has let go of the connection that had this [`Manager::identity`]. From then on whatever
    /// was sent through it is before systemd, ahead of what is asked next.
    ///
    /// # Errors
    /// There is no bus, or it does not answer in time.
    pub async fn until_gone(&self, identity: &str) -> Result<(), Error> {
        let manager = self.manager().await?;
        while manager.is_connected(identity).await? {
            tokio::time::sleep(ASK_AGAIN).await;
        }
        Ok(())
    }
}
