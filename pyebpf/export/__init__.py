# SPDX-License-Identifier: BSD-2-Clause
"""Metrics of sessions, for Prometheus and OpenTelemetry; nothing here is imported unless it is asked for."""
