"""The stages as PTransforms over pure functions: DecodeCdrs, ValidateCdrs, NormalizeCdrs, EnrichCdrs, EncodeCdrs."""
