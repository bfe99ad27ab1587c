//! The terminal, from entering it to restoring it: whether by a key, a signal, an error or a panic, it is left as it was.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use redial_core::queue::dead_page::DeadLetterFilter;
use redial_core::{Db, Error, QueueName};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::draw;
use super::observe::{FleetObserver, LetterCounter};
use super::screen::{Screen, ScreenAction, ScreenNews};
use crate::output;

/// How long Redis may take for a frame, or for what a key asks.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many letters a list has.
const MAX_LETTERS: usize = 100;

/// Shows the fleet until a key or a signal ends it.
///
/// # Errors
/// The terminal cannot be used any longer.
pub async fn run(observer: FleetObserver, interval: Duration) -> anyhow::Result<()> {
    let signals = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit()];
    let signals: Vec<Signal> = signals.into_iter().map(signal).collect::<Result<_, _>>()?;
    // It also restores the terminal in a panic.
    let mut terminal = ratatui::try_init().context("cannot use this terminal")?;
    let ended = show(&mut terminal, observer, interval, signals).await;
    let restored = ratatui::try_restore();
    ended?;
    Ok(restored?)
}

async fn show(
    terminal: &mut DefaultTerminal,
    observer: FleetObserver,
    interval: Duration,
    mut signals: Vec<Signal>,
) -> anyhow::Result<()> {
    let (news_to, mut news) = mpsc::channel(64);
    let (dead_to, dead) = watch::channel(Vec::new());
    let (db, refresh) = (observer.db().clone(), Arc::new(Notify::new()));
    let counting = count_letters(observer.letter_counter(), dead, news_to.clone());
    let observing = observe(observer, interval, refresh.clone(), news_to.clone(), dead_to);
    let mut work = tokio::spawn(async { tokio::join!(observing, counting) });
    let mut actions = JoinSet::new();
    let (mut events, mut screen) = (read_events()?, Screen::new(output::has_colour()));
    loop {
        terminal.draw(|frame| {
            let area = frame.area();
            screen.size = (area.width, area.height);
            draw::screen(&screen, area, frame.buffer_mut());
        })?;
        tokio::select! {
            () = any_of(&mut signals) => return Ok(()),
            ended = &mut work => bail!("reading the numbers has failed: {ended:?}"),
            // A panic has restored the terminal, so that nothing may be drawn any longer.
            Some(done) = actions.join_next() => done.context("what a key asked for has failed")?,
            Some(news) = news.recv() => screen.take(news),
            event = events.recv() => {
                let event = event.context("the terminal is gone")?;
                let Event::Key(key) = event else { continue };
                if key.kind == KeyEventKind::Release {
                    continue;
                }
                #[cfg(debug_assertions)]
                debug::panic_if("key");
                match screen.key(key) {
                    Some(ScreenAction::Quit) => return Ok(()),
                    Some(action) => {
                        actions.spawn(act(db.clone(), action, news_to.clone(), refresh.clone()));
                    }
                    None => {}
                }
            }
        }
    }
}

/// Waits for one of the signals.
async fn any_of(signals: &mut [Signal]) {
    std::future::poll_fn(|context| {
        let is_there = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
        if is_there { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// What is typed. The thread ends with the program.
fn read_events() -> anyhow::Result<mpsc::Receiver<Event>> {
    let (to, events) = mpsc::channel(64);
    std::thread::Builder::new().name("keys".into()).spawn(move || {
        while let Ok(event) = event::read() {
            if to.blocking_send(event).is_err() {
                break;
            }
        }
    })?;
    Ok(events)
}

/// Reads a frame now and then, whatever becomes of Redis.
async fn observe(
    mut observer: FleetObserver,
    interval: Duration,
    refresh: Arc<Notify>,
    news: mpsc::Sender<ScreenNews>,
    dead: watch::Sender<Vec<(QueueName, u64)>>,
) {
    loop {
        #[cfg(debug_assertions)]
        debug::panic_if("observation");
        let frame = within(Box::pin(observer.frame())).await;
        if let Ok(frame) = &frame {
            dead.send_replace(frame.dead());
        }
        if news.send(ScreenNews::Frame(frame.map(Box::new))).await.is_err() {
            return;
        }
        tokio::select! {
            () = sleep(interval) => {}
            () = refresh.notified() => {}
        }
    }
}

/// Counts dead letters whenever there is a new frame. An error shows in the next one.
async fn count_letters(
    counter: LetterCounter,
    mut dead: watch::Receiver<Vec<(QueueName, u64)>>,
    news: mpsc::Sender<ScreenNews>,
) {
    while dead.changed().await.is_ok() {
        let queues = dead.borrow_and_update().clone();
        if let Ok(letters) = counter.count(queues).await
            && news.send(ScreenNews::Letters(letters)).await.is_err()
        {
            return;
        }
    }
}

/// Does what a key asks for.
async fn act(db: Db, action: ScreenAction, news: mpsc::Sender<ScreenNews>, refresh: Arc<Notify>) {
    #[cfg(debug_assertions)]
    debug::panic_if("action");
    let answer = match action {
        ScreenAction::Quit => return,
        ScreenAction::SetPaused { queue, pause } => within(Box::pin(set_paused(&db, &queue, pause))).await,
        ScreenAction::ListLetters { queue, filter } => within(Box::pin(list_letters(&db, &queue, &filter))).await,
        ScreenAction::OpenLetter { queue, at, serial } => {
            let queue = db.queue(queue);
            let letter = within(Box::pin(queue.dead_letter(at, &serial))).await;
            letter.map(|letter| ScreenNews::Letter(letter.map(Box::new)))
        }
    };
    let answer = answer.unwrap_or_else(|error| ScreenNews::Notice(format!("it failed: {error}")));
    // It fails only when the program ends.
    let _ = news.send(answer).await;
    refresh.notify_one();
}

async fn set_paused(db: &Db, name: &QueueName, pause: bool) -> Result<ScreenNews, Error> {
    let queue = db.queue(name.clone());
    let is_changed = if pause { queue.pause().await? } else { queue.resume().await? };
    let text = match (pause, is_changed) {
        (true, true) => format!("{name} is paused: workers claim nothing more and finish what they hold"),
        (true, false) => format!("{name} was paused already"),
        (false, true) => format!("{name} goes on: workers claim from it within 2 s"),
        (false, false) => format!("{name} was not paused"),
    };
    Ok(ScreenNews::Notice(text))
}

async fn list_letters(db: &Db, name: &QueueName, filter: &DeadLetterFilter) -> Result<ScreenNews, Error> {
    let page = db.queue(name.clone()).newest_dead(filter, None, MAX_LETTERS).await?;
    Ok(ScreenNews::LetterList(page))
}

/// An answer of Redis, unless it takes too long.
async fn within<T>(command: Pin<Box<impl Future<Output = Result<T, Error>>>>) -> Result<T, String> {
    match timeout(PATIENCE, command).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("Redis did not answer within {PATIENCE:?}")),
    }
}

/// A hook for the tests, in debug builds only.
#[cfg(debug_assertions)]
mod debug {
    /// Panics, as a bug would, where the variable `REDIAL_DEBUG_PANIC_IN_TOP` says: at a `key`, in an `action`, in an `observation`.
    pub fn panic_if(place: &str) {
        let panics = std::env::var("REDIAL_DEBUG_PANIC_IN_TOP").is_ok_and(|named| named == place);
        assert!(!panics, "REDIAL_DEBUG_PANIC_IN_TOP names this place");
    }
}
