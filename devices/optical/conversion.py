"""What a conversion takes by its bits: laws between the values that were read, all relative to a converter of 8 bits.

DAC: 3.571 pJ at 8 bits and 12.07 pJ at 12, both at 16 nm and 14 GS/s (read in SimPhony's device library, commit
0bdc10d): a factor of 1.356 a bit, assumed beyond these two.

ADC: the envelope of Murmann's survey (hwsim.library.adc) at the rate and node of the preset, over its value at 8 bits.
It starts at 4 bits; below, Walden's 2^b. Its range is spanned by what other laws say: Walden's 2^b, where technology
limits; above 8 bits Schreier's 4^b, where thermal noise does (both recalled, and in every text on converters); below
8 bits a converter that takes what it takes at 8, its last bits unused.
"""

from __future__ import annotations

from hwsim import library
from hwsim.cost import Certainty, Quantity

PRICED_BITS = 8  # of the converters whose energies presets hold
UNROUNDED_BITS = 16  # what conversions that a simulation does not round are billed as: the words of the buffers
LEAST_SURVEYED = 4
DAC_READ = {8: 3.571, 12: 12.07}  # pJ, SimPhony device library, commit 0bdc10d
DAC_GROWTH = (DAC_READ[12] / DAC_READ[8]) ** (1 / 4)


def dac_energy(at_8_bits: Quantity, bits: int) -> Quantity:
    """Of one conversion of so many bits [J]; 0: unrounded."""
    bits = bits or UNROUNDED_BITS
    if bits == PRICED_BITS:
        return at_8_bits
    factor = DAC_GROWTH ** (bits - PRICED_BITS)
    certainty = Certainty.DERIVED if bits in range(8, 13) else Certainty.ASSUMED
    law = Quantity(factor, factor, factor, f"x {DAC_GROWTH:.3f} a bit above 8", certainty)
    return library.times(at_8_bits, law, at_8_bits.key)


def adc_energy(at_8_bits: Quantity, bits: int, rate_hz: float, node_nm: float) -> Quantity:
    """Of one conversion of so many bits [J]; 0: unrounded."""
    bits = bits or UNROUNDED_BITS
    if bits == PRICED_BITS:
        return at_8_bits
    surveyed = survey_ratio(bits, rate_hz, node_nm)
    technology = 2.0 ** (bits - PRICED_BITS)
    noise = 4.0 ** (bits - PRICED_BITS) if bits > PRICED_BITS else 1.0
    low, high = min(surveyed, technology), max(surveyed, noise)
    source = "survey envelope, hwcomponents-adc 1.0.21, over 8 bits; range: Walden's law, and Schreier's or none"
    law = Quantity(low, surveyed, high, source, Certainty.DERIVED, "optical/adc_bits")
    return library.times(at_8_bits, law, at_8_bits.key)


def survey_ratio(bits: int, rate_hz: float, node_nm: float) -> float:
    """The survey's energy at so many effective bits over that at 8."""
    priced, found = (
        library.adc(each, rate_hz, node_nm).energy.nominal for each in (PRICED_BITS, max(bits, LEAST_SURVEYED))
    )
    return found / priced * 2.0 ** min(bits - LEAST_SURVEYED, 0)
