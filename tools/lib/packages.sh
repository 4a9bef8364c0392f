# Sourced by quickstart and test. Needs ROOT (the project's folder) and LOGS (a folder for logs).

am_root() { ((EUID == 0)); }

# ensure_packages SET...: installs the packages of tools/packages.txt in these sets that are missing. Says once what it
# installs; returns 1, with the command to run, where it may not.
ensure_packages() {
  local wanted=() missing=() package as_root=() log="$LOGS/packages.log"
  mapfile -t wanted < <(
    for set in "$@"; do sed -n "s/^$set  *\([^ #]*\).*/\1/p" "$ROOT/tools/packages.txt"; done
  )
  if ! command -v dpkg-query > /dev/null; then
    echo "This is no Debian: the packages of tools/packages.txt ($*) are taken as installed."
    return 0
  fi
  for package in "${wanted[@]}"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null) == installed ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0

  local install=(apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}")
  if ! am_root; then
    if ! command -v sudo > /dev/null; then
      echo "Missing packages, and neither root nor sudo to install them. Run as root:" >&2
      echo "  apt-get update && ${install[*]}" >&2
      return 1
    fi
    as_root=(sudo)
    sudo true || return 1 # asks for the password here, in the foreground
  fi
  echo "Installing ${#missing[@]} Debian packages: ${missing[*]}"
  as_root+=(env DEBIAN_FRONTEND=noninteractive)
  # The package lists are fetched only if they are missing or older than what the mirror has.
  if "${install[@]}" --simulate > "$log" 2>&1 && "${as_root[@]}" "${install[@]}" --download-only >> "$log" 2>&1; then
    step "installing packages" packages "${as_root[@]}" "${install[@]}"
  else
    step "fetching package lists" packages-update "${as_root[@]}" apt-get update -q &&
      step "installing packages" packages "${as_root[@]}" "${install[@]}"
  fi
}
