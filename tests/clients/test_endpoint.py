"""Which server a client speaks to, and which key may go there."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import voxnb
from voxnb import errors, testing
from voxnb.clients.address import is_loopback, ollama_address, parse_address
from voxnb.clients.endpoint import PLACEHOLDERS, Endpoint, resolve_endpoint
from voxnb.params import ChatParameters
from voxnb.runtime import config

KEY = "sk-0123456789abcdef"
OTHER = "https://models.example.com/v1"


def resolve(environ=None, **given):
    return resolve_endpoint(ChatParameters(**given), environ or {})


# -- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "base_url", "host"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1", "127.0.0.1:8000"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1", "127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1", "127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1", "127.0.0.1:8000"),
        ("http://127.0.0.1:8000/api/v3/", "http://127.0.0.1:8000/api/v3", "127.0.0.1:8000"),
        ("https://api.groq.com/openai/v1", "https://api.groq.com/openai/v1", "api.groq.com"),
        ("https://Models.Example.COM:443/x", "https://models.example.com/x", "models.example.com"),
        ("http://[::1]:8080", "http://[::1]:8080/v1", "[::1]:8080"),
        ("http://localhost/v1/chat/completions", "http://localhost/v1", "localhost"),
        ("http://localhost:1/inference/chat/completions/", "http://localhost:1/inference", "localhost:1"),
        ("http://localhost:1/chat/completions", "http://localhost:1", "localhost:1"),
        ("http://localhost:1/v1/responses", "http://localhost:1/v1", "localhost:1"),
    ],
)
def test_a_base_url_works_with_and_without_its_path(given, base_url, host):
    endpoint = resolve(base_url=given)
    assert (endpoint.base_url, endpoint.host) == (base_url, host)


@pytest.mark.parametrize(
    ("given", "write"),
    [
        ("localhost:8000/v1", "'http://localhost:8000/v1'"),
        ("127.0.0.1:8000", "'http://127.0.0.1:8000'"),
        ("10.0.0.7:8000/v1", "'http://10.0.0.7:8000/v1'"),
        ("api.example.com/v1", "'https://api.example.com/v1'"),
        ("ftp://example.com/v1", "'https://example.com/v1'"),
        ("ws://example.com/v1", "'http://example.com/v1'"),
        ("wss://example.com/v1", "'https://example.com/v1'"),
        ("file:///etc/passwd", "'https:///etc/passwd'"),
        ("http://example .com/v1", "'http://example.com/v1'"),
        (" http://localhost/v1", "'http://localhost/v1'"),
        ("http://localhost/v1\n", "'http://localhost/v1'"),
        ("http://", "'http://host:port/v1'"),
        ("http:///v1", "'http://host:port/v1'"),
        ("http://localhost:port/v1", "'https://host:port/v1'"),
        ("http://localhost:99999/v1", "'https://host:port/v1'"),
        ("http://[::1/v1", "'https://host:port/v1'"),
        ("http://localhost/v1?x=1", "'http://localhost/v1'"),
        ("http://localhost/v1#x", "'http://localhost/v1'"),
        ("", "'local'"),
        ("   ", "'ollama'"),
        ("olama", "'ollama'"),
        ("Local", "'local'"),
    ],
)
def test_a_bad_base_url_says_what_to_write(given, write):
    with pytest.raises(errors.ParameterError) as caught:
        resolve(base_url=given)
    assert caught.value.name == "base_url"
    assert write in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        f"http://{KEY}@localhost/v1",
        f"http://me:{KEY}@localhost/v1",
        f"me:{KEY}@localhost/v1",
        f"//me:{KEY}@localhost/v1",
        f"http://localhost/v1?api_key={KEY}",
        f"http://localhost/v1#{KEY}",
        f"http:// me:{KEY}@localhost",
        f"http://me:{KEY}/x@localhost",
        f"ftp://me:{KEY}@localhost",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(given):
    with pytest.raises(errors.ParameterError) as caught:
        resolve(base_url=given)
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "trick", ["https://api.openai.com@evil.example/v1", "https://api.openai.com\\@evil.example/v1"]
)
def test_a_host_in_disguise_gets_nothing(trick):
    with pytest.raises(errors.ParameterError):
        resolve({"OPENAI_API_KEY": KEY}, base_url=trick)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_parameter_error(text):
    for whole in (text, f"http://{text}", f"https://host/{text}"):
        try:
            address = parse_address(whole)
        except errors.ParameterError as error:
            assert error.name == "base_url"
        else:
            assert parse_address(address.url()).url() == address.url(), "what is sent means the same when read again"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine_is_loopback(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "10.0.0.1", "localhost.example.com", "127.0.0.1.nip.io", "example.com", ""]
)
def test_other_machines_are_not(host):
    assert not is_loopback(host)


def test_the_root_is_what_stands_before_v1():
    assert resolve(base_url="http://localhost:1/llama/v1").root == "http://localhost:1/llama"
    assert resolve(base_url="http://localhost:1/api").root == "http://localhost:1/api"


# -- keys ------------------------------------------------------------------------------------------


def test_without_a_key_and_a_base_url_the_error_names_both_ways_out():
    with pytest.raises(errors.CredentialsError) as caught:
        resolve()
    for words in ('base_url="local"', '"ollama"', "OPENAI_API_KEY", "api_key"):
        assert words in str(caught.value)


@pytest.mark.parametrize("base_url", ["https://api.openai.com/v1", "https://eu.api.openai.com"])
def test_openai_itself_needs_a_key(base_url):
    with pytest.raises(errors.CredentialsError, match="no key"):
        resolve(base_url=base_url)


@pytest.mark.parametrize(
    ("environ", "given", "source"), [({"OPENAI_API_KEY": " "}, {}, "OPENAI_API_KEY"), ({}, {"api_key": ""}, "api_key")]
)
def test_an_empty_key_is_named_as_the_one_that_is_empty(environ, given, source):
    with pytest.raises(errors.CredentialsError, match=rf"^{source} is empty"):
        resolve(environ, **given)


def test_the_key_of_the_environment_goes_to_openai():
    endpoint = resolve({"OPENAI_API_KEY": KEY})
    assert (endpoint.api_key, endpoint.key_source) == (KEY, "OPENAI_API_KEY")
    assert (endpoint.base_url, endpoint.host) == ("https://api.openai.com/v1", "api.openai.com")
    assert endpoint.is_openai
    assert not endpoint.is_local


@pytest.mark.parametrize(
    "base_url", ["https://api.openai.com", "https://us.api.openai.com/v1", "https://API.OPENAI.COM./v1"]
)
def test_every_address_of_openai_is_openai(base_url):
    endpoint = resolve({"OPENAI_API_KEY": KEY}, base_url=base_url)
    assert (endpoint.api_key, endpoint.is_openai) == (KEY, True)


@pytest.mark.parametrize(
    "base_url",
    [
        OTHER,
        "https://api.openai.com.evil.example/v1",
        "https://evil-api.openai.com/v1",
        "https://xapi.openai.com/v1",
        "https://openai.com/v1",
        "https://x.openai.azure.com",
        "http://127.0.0.1:8000/v1",
        "ollama",
    ],
)
def test_the_key_of_the_environment_goes_nowhere_else(base_url):
    environ = {"OPENAI_API_KEY": KEY, "OPENAI_ORG_ID": "o", "OPENAI_PROJECT_ID": "p", "OPENAI_CUSTOM_HEADERS": "a: b"}
    endpoint = resolve(environ, base_url=base_url)
    assert (endpoint.api_key, endpoint.key_source) == (None, "")
    assert (endpoint.organization, endpoint.project, dict(endpoint.headers)) == (None, None, {})
    assert not endpoint.is_openai


def test_the_key_of_the_environment_goes_to_the_host_of_openai_base_url():
    environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": OTHER, "OPENAI_ORG_ID": "o", "OPENAI_PROJECT_ID": "p"}
    by_default = resolve(environ)
    assert (by_default.base_url, by_default.api_key) == (OTHER, KEY)
    assert (by_default.organization, by_default.project) == ("o", "p")
    assert resolve(environ, base_url="https://models.example.com/v2").api_key == KEY
    assert resolve(environ, base_url="https://api.openai.com/v1").api_key == KEY
    assert resolve(environ, base_url="https://other.example.com/v1").api_key is None
    assert resolve(environ, base_url="https://models.example.com:8443/v1").api_key is None


def test_another_port_of_this_machine_is_another_server():
    environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://127.0.0.1:8000/v1"}
    assert resolve(environ).api_key == KEY
    assert resolve(environ, base_url="http://127.0.0.1:8001/v1").api_key is None


def test_a_bad_openai_base_url_is_named_where_it_is_used_and_vouches_for_nobody():
    environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "nonsense"}
    with pytest.raises(errors.ParameterError, match=r"^OPENAI_BASE_URL"):
        resolve(environ)
    assert resolve(environ, base_url=OTHER).api_key is None
    with pytest.raises(errors.ParameterError, match="base_url='ollama'"):
        resolve({"OPENAI_BASE_URL": "ollama"})
    assert resolve({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": ""}).is_openai


def test_a_key_that_is_passed_goes_where_it_is_told():
    endpoint = resolve({"OPENAI_API_KEY": "sk-environment"}, api_key=KEY, base_url=OTHER)
    assert (endpoint.api_key, endpoint.key_source) == (KEY, "api_key")
    assert resolve({"OPENAI_API_KEY": "sk-environment"}, api_key=KEY).api_key == KEY


def test_a_key_function_is_not_called_before_a_request():
    def key():
        raise AssertionError("called too early")

    assert resolve(api_key=key, base_url=OTHER).api_key is key
    assert resolve(api_key=key).is_openai


@pytest.mark.parametrize("base_url", ["http://models.example.com/v1", "http://10.0.0.7:8000", "http://0.0.0.0:8000"])
@pytest.mark.parametrize("key", [KEY, lambda: KEY], ids=["text", "function"])
def test_a_key_does_not_travel_in_the_clear(base_url, key):
    with pytest.raises(errors.CredentialsError) as caught:
        resolve(api_key=key, base_url=base_url)
    assert "https://" in str(caught.value)
    assert KEY not in str(caught.value)
    assert resolve(base_url=base_url).api_key is None


def test_nor_does_the_key_of_the_environment():
    environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://gateway.example.com/v1"}
    with pytest.raises(errors.CredentialsError, match="OPENAI_API_KEY"):
        resolve(environ)
    with pytest.raises(errors.CredentialsError):
        resolve({"OPENAI_API_KEY": KEY}, base_url="http://api.openai.com/v1")


@pytest.mark.parametrize("key", ["EMPTY", "ollama", "not-needed", "x"])
def test_stand_ins_for_a_key_are_no_secrets(key):
    assert key.lower() in PLACEHOLDERS
    assert resolve(api_key=key, base_url="http://10.0.0.7:8000/v1").api_key == key


@pytest.mark.parametrize(
    "base_url", ["http://localhost:8000", "http://127.0.0.1:8000", "http://[::1]:8000", "https://10.0.0.7"]
)
def test_loopback_and_https_may_have_a_key(base_url):
    assert resolve(api_key=KEY, base_url=base_url).api_key == KEY


def test_blanks_around_a_key_are_taken_off():
    assert resolve(api_key=f" {KEY}\r\n").api_key == KEY


@pytest.mark.parametrize("key", ["sk-secret key", "sk-secret\nX-Evil: 1", "sk-secrét", "sk-secret\x00", "“sk-secret”"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(key):
    with pytest.raises(errors.CredentialsError) as caught:
        resolve(api_key=key)
    assert "secr" not in str(caught.value)
    assert "position" in str(caught.value)


def test_custom_headers_of_the_environment_go_where_its_key_may_go():
    environ = {
        "OPENAI_API_KEY": KEY,
        "OPENAI_CUSTOM_HEADERS": "X-Team: blue\n\nnonsense\nAuthorization: Bearer x\nX-Url: http://a:1",
    }
    assert dict(resolve(environ).headers) == {"X-Team": "blue", "X-Url": "http://a:1"}
    del environ["OPENAI_API_KEY"]
    environ["OPENAI_BASE_URL"] = OTHER
    assert resolve(environ).headers["Authorization"] == "Bearer x"


def test_a_project_that_is_passed_is_sent_everywhere():
    assert resolve(project="p", base_url=OTHER).project == "p"
    assert resolve({"OPENAI_API_KEY": KEY, "OPENAI_PROJECT_ID": "q"}, project="p").project == "p"


def test_the_repr_never_shows_a_key():
    environ = {"OPENAI_API_KEY": KEY, "OPENAI_CUSTOM_HEADERS": "X-Secret: hush"}
    shown = repr(resolve(environ))
    assert KEY not in shown
    assert "hush" not in shown
    assert "https://api.openai.com/v1" in shown


def test_an_endpoint_is_a_value():
    assert resolve(api_key=KEY) == resolve(api_key=KEY)
    assert len({resolve(api_key=KEY), resolve(api_key=KEY)}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        resolve(api_key=KEY).host = "x"


# -- named servers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "base_url"),
    [
        (None, "http://127.0.0.1:11434/v1"),
        ("", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080/v1"),
        ("[::]:8080", "http://[::1]:8080/v1"),
        (":8080", "http://127.0.0.1:8080/v1"),
        ("gpu-box", "http://gpu-box:11434/v1"),
        ("gpu-box:123", "http://gpu-box:123/v1"),
        ("http://gpu-box", "http://gpu-box/v1"),
        ("https://gpu-box/ollama/", "https://gpu-box/ollama/v1"),
        (' "gpu-box" ', "http://gpu-box:11434/v1"),
    ],
)
def test_ollama_is_found_where_ollama_host_says(value, base_url):
    endpoint = resolve({} if value is None else {"OLLAMA_HOST": value}, base_url="ollama")
    assert endpoint.base_url == base_url
    assert endpoint.api_key is None


def test_a_bad_ollama_host_is_named():
    with pytest.raises(errors.ParameterError, match=r"^OLLAMA_HOST"):
        resolve({"OLLAMA_HOST": "gpu box"}, base_url="ollama")
    with pytest.raises(errors.ParameterError, match=r"^OLLAMA_HOST"):
        ollama_address("gpu:box")


def test_local_is_the_embedded_model_with_its_own_key(monkeypatch):
    served = SimpleNamespace(base_url="http://127.0.0.1:40001/v1", api_key="own-key")
    asked = []
    monkeypatch.setattr(config, "load", lambda name: asked.append(name) or (lambda: served))
    endpoint = resolve({"OPENAI_API_KEY": KEY, "OPENAI_ORG_ID": "o"}, base_url="local")
    assert asked == ["local"]
    assert (endpoint.base_url, endpoint.api_key, endpoint.is_local) == (served.base_url, "own-key", True)
    assert endpoint.organization is None
    assert "own-key" not in repr(endpoint)


# -- Azure -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "given", "environ", "expected"),
    [
        ("https://x.openai.azure.com", {}, {}, ("https://x.openai.azure.com/openai/v1", None)),
        ("https://x.openai.azure.com/openai", {}, {}, ("https://x.openai.azure.com/openai/v1", None)),
        ("https://x.openai.azure.com/openai/v1/", {}, {}, ("https://x.openai.azure.com/openai/v1", None)),
        ("https://x.openai.azure.com/openai/v1", {}, {"OPENAI_API_VERSION": "v"}, ("https://x.openai.azure.com/openai/v1", None)),
        ("https://x.openai.azure.com", {"api_version": "v"}, {}, ("https://x.openai.azure.com/openai", "v")),
        ("https://x.openai.azure.com/", {}, {"OPENAI_API_VERSION": "v"}, ("https://x.openai.azure.com/openai", "v")),
        ("https://x.openai.azure.com/openai/deployments/d", {"api_version": "v"}, {}, ("https://x.openai.azure.com/openai/deployments/d", "v")),
        ("https://x.openai.azure.com/openai/deployments/d/chat/completions?api-version=v", {}, {}, ("https://x.openai.azure.com/openai/deployments/d", "v")),
        ("https://gateway.example.com/ai", {"api_version": "v"}, {}, ("https://gateway.example.com/ai/openai", "v")),
        ("https://models.example.com/v1", {}, {"OPENAI_API_VERSION": "v"}, (OTHER, None)),
    ],
)  # fmt: skip
def test_azure_urls_work_in_every_form(base_url, given, environ, expected):
    endpoint = resolve(environ, api_key=KEY, base_url=base_url, **given)
    assert (endpoint.base_url, endpoint.api_version) == expected


def test_a_version_on_azures_versionless_interface_goes_into_the_query():
    endpoint = resolve(api_key=KEY, base_url="https://x.openai.azure.com/openai/v1?api-version=preview")
    assert (endpoint.api_version, dict(endpoint.query)) == (None, {"api-version": "preview"})


def test_a_deployment_without_a_version_says_what_is_missing():
    with pytest.raises(errors.ParameterError, match="api_version") as caught:
        resolve(api_key=KEY, base_url="https://x.openai.azure.com/openai/deployments/d")
    assert "/openai/v1" in str(caught.value)


def test_the_deployment_in_an_address_is_the_model_where_none_is_named():
    with testing.server("Hi.") as server:
        url = f"{server.base_url.removesuffix('/v1')}/openai/deployments/my%20gpt/chat/completions?api-version=v"
        with voxnb.ChatCompletionsAPIClient(base_url=url, api_key=server.api_key) as client:
            assert str(client.ask("Hello").result(30)) == "Hi."
        assert server.requests[0].path == "/openai/deployments/my%20gpt/chat/completions"
        assert server.requests[0].json["model"] == "my gpt"


@pytest.mark.parametrize("base_url", [None, "https://api.openai.com/v1"])
def test_a_version_of_azures_without_its_resource_sends_no_key_to_openai(base_url):
    with pytest.raises(errors.ParameterError, match="api_version='2024-10-21' is Azure's") as caught:
        resolve(api_key=KEY, base_url=base_url, api_version="2024-10-21")
    assert "base_url='https://" in str(caught.value)
    assert KEY not in str(caught.value)


def test_endpoint_is_the_one_of_the_address_module():
    from voxnb.clients.address import Endpoint as Same

    assert Endpoint is Same
