//! What of a command's output reaches the server: its head in small ticks while it runs, its tail at the end, within
//! 24 KB; the middle is dropped.

/// The server keeps this many bytes of a command's output.
const QUOTA: usize = 24 * 1024;
/// A tick takes at most this many.
const TICK: usize = 2048;
/// Beyond this many no more is streamed.
const STREAMED: usize = 6000;

/// The output of one command.
#[derive(Default)]
pub(super) struct Report {
    streamed: Vec<u8>,
    rest: Vec<u8>,
    dropped: u64,
}

impl Report {
    /// New output.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        if self.rest.len() > 16 * QUOTA {
            // A script that never stops writing must not fill our memory: keep what ticks and tail can still use.
            self.drop_middle(STREAMED + TICK, QUOTA);
        }
    }

    /// What goes out now; empty when there is nothing or enough has been streamed.
    pub(super) fn tick(&mut self) -> Vec<u8> {
        if self.streamed.len() > STREAMED {
            return Vec::new();
        }
        let part: Vec<u8> = self.rest.drain(..self.rest.len().min(TICK)).collect();
        self.streamed.extend_from_slice(&part);
        part
    }

    /// All that the server has in the end, and how many bytes it lacks.
    pub(super) fn finish(mut self) -> (Vec<u8>, u64) {
        self.drop_middle(0, QUOTA - self.streamed.len());
        self.streamed.append(&mut self.rest);
        (self.streamed, self.dropped)
    }

    fn drop_middle(&mut self, head: usize, tail: usize) {
        let end = self.rest.len().saturating_sub(tail);
        if head < end {
            self.rest.drain(head..end);
            self.dropped += (end - head) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_output_arrives_whole() {
        let mut report = Report::default();
        report.push(b"one\n");
        assert_eq!(report.tick(), b"one\n");
        assert_eq!(report.tick(), b"");
        report.push(b"two\n");
        assert_eq!(report.finish(), (b"one\ntwo\n".to_vec(), 0));
    }

    #[test]
    fn ticks_are_small_and_end_early() {
        let mut report = Report::default();
        report.push(&vec![b'x'; 20_000]);
        let ticks: Vec<usize> = (0..6).map(|_| report.tick().len()).collect();
        assert_eq!(ticks, [2048, 2048, 2048, 0, 0, 0]);
        assert_eq!(report.finish().0.len(), 20_000);
    }

    #[test]
    fn head_and_tail_survive_a_flood() {
        let mut report = Report::default();
        report.push(b"head ");
        report.tick();
        for _ in 0..1000 {
            report.push(&[b'x'; 1000]);
        }
        report.push(b" tail");
        let (output, dropped) = report.finish();
        assert!(output.starts_with(b"head x") && output.ends_with(b"x tail"));
        assert_eq!((output.len(), dropped), (QUOTA, 1_000_010 - QUOTA as u64));
    }
}
