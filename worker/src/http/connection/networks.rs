//! Which addresses are public unicast: a table of the networks that are not.
//!
//! Sources: IANA's IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890), of which every block that is not globally reachable stands
//! here; IANA's IPv6 address space, of which only 2000::/3 is allocated to global unicast; IANA's multicast registries; and the addresses at
//! which clouds serve their metadata. Blocks that the registries call globally reachable, such as AS112 (192.31.196.0/24,
//! 192.175.48.0/24, 2620:4f:8000::/48) and AMT (192.52.193.0/24), are public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// IPv4 networks that are not public.
const V4: [Ipv4Net; 17] = [
    v4([0, 0, 0, 0], 8),          // this network: RFC 791; Linux connects 0.0.0.0 to loopback
    v4([10, 0, 0, 0], 8),         // private use: RFC 1918
    v4([100, 64, 0, 0], 10),      // shared address space: RFC 6598; Alibaba's metadata is at 100.100.100.200
    v4([127, 0, 0, 0], 8),        // loopback: RFC 1122
    v4([168, 63, 129, 16], 32),   // Azure's virtual machines reach their host here, although the address looks public
    v4([169, 254, 0, 0], 16), // link local: RFC 3927; metadata of AWS, Google, Azure, Oracle, ... at 169.254.169.254
    v4([172, 16, 0, 0], 12),  // private use: RFC 1918
    v4([192, 0, 0, 0], 24), // IETF protocol assignments: RFC 6890; its anycasts lead to the local gateway; Oracle's metadata
    v4([192, 0, 2, 0], 24), // documentation: RFC 5737
    v4([192, 88, 99, 0], 24), // 6to4 relays, deprecated: RFC 7526
    v4([192, 168, 0, 0], 16), // private use: RFC 1918
    v4([198, 18, 0, 0], 15), // benchmarking: RFC 2544
    v4([198, 51, 100, 0], 24), // documentation: RFC 5737
    v4([203, 0, 113, 0], 24), // documentation: RFC 5737
    v4([224, 0, 0, 0], 4),  // multicast: RFC 5771
    v4([240, 0, 0, 0], 4),  // reserved: RFC 1112
    v4([255, 255, 255, 255], 32), // limited broadcast: RFC 919
];

/// IPv6 networks that are not public.
const V6: [Ipv6Net; 6] = [
    // All but 2000::/3 are not global unicast. Among them are loopback and unspecified (RFC 4291), IPv4-compatible (RFC 4291) and
    // IPv4-translated addresses (RFC 2765), local NAT64 (64:ff9b:1::/48, RFC 8215), discard-only (100::/64, RFC 6666), dummy prefix
    // (100:0:0:1::/64, RFC 9780), segment routing (5f00::/16, RFC 9602), unique local (fc00::/7, RFC 4193; metadata of AWS at fd00:ec2::254,
    // of Google at fd20:ce::254), link local (fe80::/10, RFC 4291), site local (fec0::/10, RFC 3879) and multicast (ff00::/8, RFC 4291).
    v6([0, 0, 0], 3),
    v6([0x4000, 0, 0], 2),
    v6([0x8000, 0, 0], 1),
    // Inside 2000::/3. The protocol assignments (RFC 2928) are refused as a whole: Teredo (2001::/32, RFC 4380), which embeds addresses that
    // its servers choose; benchmarking (2001:2::/48, RFC 5180); ORCHID (2001:10::/28 and 2001:20::/28, RFC 7343); drone identities
    // (2001:30::/28, RFC 9374); and the anycasts of PCP, TURN and DNS-SD (2001:1::/48, RFC 7723), which lead to the local gateway.
    v6([0x2001, 0, 0], 23),
    v6([0x2001, 0xdb8, 0], 32), // documentation: RFC 3849
    v6([0x3fff, 0, 0], 20),     // documentation: RFC 9637
];

const fn v4(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    let [a, b, c, d] = octets;
    // Evaluated by the compiler: a prefix that is too long does not compile.
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(segments: [u16; 3], prefix: u8) -> Ipv6Net {
    let [a, b, c] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// Whether an address is public unicast.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !V4.iter().any(|net| net.contains(&address)),
        IpAddr::V6(address) => !V6.iter().any(|net| net.contains(&address)),
    }
}

/// The IPv4 address that stands for an IPv6 address, because whatever is sent to it arrives there: mapped (RFC 4291), NAT64 (RFC 6052),
/// 6to4 (RFC 3056).
pub(super) fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Some(joined(high, low))
        }
        _ => None,
    }
}

/// The IPv4 address in the interface identifier of an ISATAP address (RFC 5214): a router of the network sends what arrives there.
pub(super) fn isatap_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    match v6.segments() {
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => Some(joined(high, low)),
        _ => None,
    }
}

fn joined(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(address: &str) -> Option<bool> {
        address.parse().ok().map(is_public)
    }

    #[test]
    fn each_network_is_refused_from_its_first_to_its_last_address_and_no_further() {
        for net in V4 {
            assert!(!is_public(net.network().into()) && !is_public(net.broadcast().into()), "{net}");
        }
        for net in V6 {
            assert!(!is_public(net.network().into()) && !is_public(net.broadcast().into()), "{net}");
        }
        for beside in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "2000::",
            "2001:200::",
            "2001:db7:ffff::",
            "2001:db9::",
            "3ffd::",
            "3fff:1000::",
            "3fff:ffff::",
        ] {
            assert_eq!(public(beside), Some(true), "{beside}");
        }
    }

    #[test]
    fn every_block_of_the_registries_that_is_not_globally_reachable_is_refused() {
        for block in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "192.0.0.1",
            "192.0.0.8",
            "192.0.0.9",
            "192.0.0.10",
            "192.0.0.170",
            "192.0.2.1",
            "192.88.99.2",
            "192.168.0.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "240.0.0.1",
            "255.255.255.255",
            "224.0.0.251",
            "::",
            "::1",
            "::ffff:0:127.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "100:0:0:1::1",
            "2001::1",
            "2001:1::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:30::1",
            "2001:db8::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
            "8000::1",
            "c000::1",
            "e000::1",
            "fe00::1",
        ] {
            assert_eq!(public(block), Some(false), "{block}");
        }
    }

    #[test]
    fn metadata_of_clouds_is_refused() {
        for address in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "169.254.0.23",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:42::42",
        ] {
            assert_eq!(public(address), Some(false), "{address}");
        }
    }

    #[test]
    fn blocks_that_are_globally_reachable_are_public() {
        for address in [
            "1.1.1.1",
            "192.31.196.1",
            "192.52.193.1",
            "192.175.48.1",
            "2620:4f:8000::1",
            "2606:4700::1111",
            "2a00:1450::1",
            "2400:cb00::1",
            "2c0f:fb50::1",
        ] {
            assert_eq!(public(address), Some(true), "{address}");
        }
    }
}
