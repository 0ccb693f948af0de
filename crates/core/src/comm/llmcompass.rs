//! LLMCompass's all-reduce, exactly, for comparison with the paper.

use crate::units::{Bytes, BytesPerSecond, Seconds};

/// LLMCompass's all-reduce among fully connected devices.
///
/// ```text
/// e = D/n + 16 · (1 + ceil((D/n)/256));  edge = W/(n − 1)
/// T = (n − 1) · (L + e/(2·edge)) + e/edge
/// ```
///
/// - `D` bytes, `n` devices, `W` bandwidth of one device's link per direction (12 links
///   of 25 GB/s on an A100), `L` latency; packets of 256 bytes carry a header of 16.
/// - Source: LLMCompass (Zhang et al., ISCA 2024), commit 2e015fd.
/// - Valid for two devices and more; one device takes no time. It is 31 % low between
///   256 KiB and 32 MiB on 4 A100 and twice too slow below 2 KiB.
/// - Worked number: 4 MiB, 4 devices, 300e9 B/s, 8.92 µs: 54.6 µs.
#[must_use]
pub fn all_reduce(
    size: Bytes,
    devices: u32,
    bandwidth: BytesPerSecond,
    latency: Seconds,
) -> Seconds {
    if devices < 2 {
        return Seconds::ZERO;
    }
    let n = f64::from(devices);
    let share = size.get() / n;
    let with_headers = Bytes::new(share + 16.0 * (1.0 + (share / 256.0).ceil()));
    let edge = bandwidth / (n - 1.0);
    (latency + with_headers / (edge * 2.0)) * (n - 1.0) + with_headers / edge
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_mebibytes_on_four_a100_take_54_6_microseconds() {
        let time = |bytes: f64, n| {
            all_reduce(Bytes::new(bytes), n, BytesPerSecond::new(300e9), Seconds::new(8.92e-6))
        };
        // share 1 MiB, 4096 packets: e = 1,114,128 B; edge 100 GB/s.
        let exact = 3.0 * (8.92e-6 + 1_114_128.0 / 200e9) + 1_114_128.0 / 100e9;
        assert!((time(4_194_304.0, 4).get() - exact).abs() < 1e-15);
        assert!((exact - 54.6e-6).abs() < 0.05e-6, "{exact}");
        assert!((time(8192.0, 4).get() - 26.8e-6).abs() < 0.1e-6);
        assert!(time(4_194_304.0, 1).get() <= 0.0);
    }
}
