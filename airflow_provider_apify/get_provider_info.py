"""What Airflow reads to discover this provider. It runs in every component at start, so it imports nothing."""

from __future__ import annotations


def get_provider_info() -> dict:  # type: ignore[type-arg]
    """Describe the provider in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-apify",
        "name": "Apify",
        "description": "Build and run Apify Actors, wait for builds and runs, and use what they scraped.",
        "integrations": [
            {"integration-name": "Apify", "external-doc-url": "https://docs.apify.com/api/v2", "tags": ["service"]}
        ],
        "hooks": [{"integration-name": "Apify", "python-modules": ["airflow_provider_apify.hooks.apify"]}],
        "operators": [
            {
                "integration-name": "Apify",
                "python-modules": [
                    "airflow_provider_apify.operators.build",
                    "airflow_provider_apify.operators.run",
                    "airflow_provider_apify.operators.tag",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": "Apify",
                "python-modules": ["airflow_provider_apify.sensors.build", "airflow_provider_apify.sensors.run"],
            }
        ],
        "triggers": [
            {
                "integration-name": "Apify",
                "python-modules": [
                    "airflow_provider_apify.triggers.build",
                    "airflow_provider_apify.triggers.capacity",
                    "airflow_provider_apify.triggers.events",
                    "airflow_provider_apify.triggers.run",
                ],
            }
        ],
        "transfers": [
            {
                "source-integration-name": "Apify",
                "target-integration-name": "Common IO",
                "python-module": "airflow_provider_apify.transfers.dataset_to_object_storage",
            }
        ],
        "extra-links": ["airflow_provider_apify.links.console.ApifyConsoleLink"],
        "connection-types": [
            {
                "connection-type": "apify",
                "hook-name": "Apify",
                "hook-class-name": "airflow_provider_apify.hooks.apify.ApifyHook",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "login", "port"],
                    "relabeling": {"password": "API token", "host": "API base URL"},
                    "placeholders": {"password": "apify_api_...", "host": "https://api.apify.com"},
                },
                "conn-fields": {
                    "wait_seconds": {
                        "label": "Long-poll time (s)",
                        "description": "How long Apify may hold an answer back while a build runs, 0 to 60. Lower it"
                        " if a proxy cuts long requests. Default 60.",
                        "schema": {"type": ["integer", "null"], "minimum": 0, "maximum": 60},
                    },
                    "timeout": {
                        "label": "Timeout (s)",
                        "description": "To connect and to read an answer, in seconds, 1 to 600, on top of the long-poll"
                        " time above. Default 30.",
                        "schema": {"type": ["number", "null"], "minimum": 1, "maximum": 600},
                    },
                    "proxy": {
                        "label": "Proxy",
                        "description": "URL such as http://proxy.example.com:3128. Default: HTTPS_PROXY and NO_PROXY"
                        " of the machine that runs the task.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "ca_bundle": {
                        "label": "CA bundle",
                        "description": "PEM file or directory of certificate authorities to trust, on the machines that"
                        " run tasks and triggers. Default: REQUESTS_CA_BUNDLE, else certifi's.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "allow_http": {
                        "label": "Allow http",
                        "description": "Send the token unencrypted to a host other than this machine.",
                        "schema": {"type": ["boolean", "null"], "default": False},
                    },
                    "console_url": {
                        "label": "Console base URL",
                        "description": "What links to builds begin with. For an organization:"
                        " https://console.apify.com/organization/ID. Default: https://console.apify.com.",
                        "schema": {"type": ["string", "null"]},
                    },
                },
            }
        ],
    }
